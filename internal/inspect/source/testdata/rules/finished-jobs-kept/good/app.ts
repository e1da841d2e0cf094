import { Queue } from 'bullmq';

export const queue = new Queue('mail', {
  connection: { host: 'localhost' },
  defaultJobOptions: { removeOnComplete: true, removeOnFail: { age: 86400 } },
});
