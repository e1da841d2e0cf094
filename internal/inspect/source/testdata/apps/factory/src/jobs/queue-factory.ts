import { Queue, Worker, Job, QueueOptions, WorkerOptions } from 'bullmq';
import { bullmqConnection } from './bullmq-connection';

export function createQueue<T = any>(name: string, options?: Partial<QueueOptions>): Queue<T> {
  return new Queue<T>(name, {
    connection: bullmqConnection,
    ...options,
  });
}

export function createWorker<T = any>(
  name: string,
  processor: (job: Job<T>) => Promise<any>,
  options?: Partial<WorkerOptions>,
): Worker<T> {
  return new Worker<T>(name, processor, {
    connection: bullmqConnection,
    concurrency: 1,
    ...options,
  });
}
