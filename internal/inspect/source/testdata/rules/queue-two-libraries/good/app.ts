import Bull from 'bull';
import { Queue } from 'bullmq';

export const before = new Bull('mail');
export const after = new Queue('mail', { connection: { host: 'localhost' }, prefix: 'bullmq' });
