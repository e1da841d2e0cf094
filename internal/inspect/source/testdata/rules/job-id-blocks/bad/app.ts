import { Queue } from 'bullmq';

const queue = new Queue('sync', { connection: { host: 'localhost' } });

export async function sync(userId: string): Promise<void> {
  await queue.add('sync', { userId }, {
    jobId: `sync-${userId}`,
    removeOnComplete: true,
    removeOnFail: false,
  });
}
