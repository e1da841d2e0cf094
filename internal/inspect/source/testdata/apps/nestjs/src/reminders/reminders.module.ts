import { BullModule } from '@nestjs/bullmq';
import { Module } from '@nestjs/common';
import * as processors from './reminders.processors';
import { RemindersService } from './reminders.service';

const NAMES = ['token-refresh', 'webhook-renewal', 'notification-reminder', 'adaptive-sync', 'webhook-health-check'];

@Module({
  imports: [
    ...NAMES.map((name) => BullModule.registerQueue({ name })),
  ],
  providers: [...Object.values(processors), RemindersService],
})
export class RemindersModule {}
