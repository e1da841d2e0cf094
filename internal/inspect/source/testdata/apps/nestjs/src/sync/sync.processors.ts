import { Processor, WorkerHost } from '@nestjs/bullmq';
import type { Job } from 'bullmq';
import { idle } from '../idle';

@Processor('suggestion-generation', idle)
export class SuggestionGenerationProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}

@Processor('batch-notifications', idle)
export class BatchNotificationsProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}

@Processor('calendar-sync', idle)
export class CalendarSyncProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}

@Processor('suggestion-regeneration', idle)
export class SuggestionRegenerationProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}

@Processor('google-contacts-sync', idle)
export class GoogleContactsSyncProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}

@Processor('token-health-reminder', idle)
export class TokenHealthReminderProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}
