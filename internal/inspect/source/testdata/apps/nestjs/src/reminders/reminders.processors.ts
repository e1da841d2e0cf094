import { Processor, WorkerHost } from '@nestjs/bullmq';
import type { Job } from 'bullmq';
import { idle } from '../idle';

@Processor('token-refresh', idle)
export class TokenRefreshProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}

@Processor('webhook-renewal', idle)
export class WebhookRenewalProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}

@Processor('notification-reminder', idle)
export class NotificationReminderProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}

@Processor('adaptive-sync', idle)
export class AdaptiveSyncProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}

@Processor('webhook-health-check', idle)
export class WebhookHealthCheckProcessor extends WorkerHost {
  async process(job: Job): Promise<unknown> {
    return job.data;
  }
}
