import { BullModule } from '@nestjs/bullmq';
import { Module } from '@nestjs/common';
import * as processors from './sync.processors';
import { SyncService } from './sync.service';

@Module({
  imports: [
    BullModule.registerQueue(
      { name: 'suggestion-generation' },
      { name: 'batch-notifications' },
      { name: 'calendar-sync' },
      { name: 'suggestion-regeneration' },
      { name: 'google-contacts-sync' },
      { name: 'token-health-reminder' },
    ),
  ],
  providers: [...Object.values(processors), SyncService],
})
export class SyncModule {}
