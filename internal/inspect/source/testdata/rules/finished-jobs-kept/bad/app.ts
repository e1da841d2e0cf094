import { Queue } from 'bullmq';

export const queue = new Queue('mail', { connection: { host: 'localhost' } });
