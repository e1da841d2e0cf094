import { InjectQueue } from '@nestjs/bullmq';
import { Injectable } from '@nestjs/common';
import type { Queue } from 'bullmq';

@Injectable()
export class RemindersService {
  constructor(@InjectQueue('token-refresh') private readonly queue: Queue) {}

  async later(userId: string): Promise<void> {
    await this.queue.add('one', { userId });
  }
}
