import { createQueue, createWorker } from '@jobs/queue-factory';
import { idle } from './idle';

const suggestionGenerationQueue = createQueue('suggestion-generation');
const suggestionGenerationWorker = createWorker('suggestion-generation', async (job) => job.data, idle);

const batchNotificationsQueue = createQueue('batch-notifications');
const batchNotificationsWorker = createWorker('batch-notifications', async (job) => job.data, idle);

const calendarSyncQueue = createQueue('calendar-sync');
const calendarSyncWorker = createWorker('calendar-sync', async (job) => job.data, idle);

const suggestionRegenerationQueue = createQueue('suggestion-regeneration');
const suggestionRegenerationWorker = createWorker('suggestion-regeneration', async (job) => job.data, idle);

const googleContactsSyncQueue = createQueue('google-contacts-sync');
const googleContactsSyncWorker = createWorker('google-contacts-sync', async (job) => job.data, idle);

const tokenHealthReminderQueue = createQueue('token-health-reminder');
const tokenHealthReminderWorker = createWorker('token-health-reminder', async (job) => job.data, idle);

const tokenRefreshQueue = createQueue('token-refresh');
const tokenRefreshWorker = createWorker('token-refresh', async (job) => job.data, idle);

const webhookRenewalQueue = createQueue('webhook-renewal');
const webhookRenewalWorker = createWorker('webhook-renewal', async (job) => job.data, idle);

const notificationReminderQueue = createQueue('notification-reminder');
const notificationReminderWorker = createWorker('notification-reminder', async (job) => job.data, idle);

const adaptiveSyncQueue = createQueue('adaptive-sync');
const adaptiveSyncWorker = createWorker('adaptive-sync', async (job) => job.data, idle);

const webhookHealthCheckQueue = createQueue('webhook-health-check');
const webhookHealthCheckWorker = createWorker('webhook-health-check', async (job) => job.data, idle);

export const everything = [
  suggestionGenerationQueue,
  suggestionGenerationWorker,
  batchNotificationsQueue,
  batchNotificationsWorker,
  calendarSyncQueue,
  calendarSyncWorker,
  suggestionRegenerationQueue,
  suggestionRegenerationWorker,
  googleContactsSyncQueue,
  googleContactsSyncWorker,
  tokenHealthReminderQueue,
  tokenHealthReminderWorker,
  tokenRefreshQueue,
  tokenRefreshWorker,
  webhookRenewalQueue,
  webhookRenewalWorker,
  notificationReminderQueue,
  notificationReminderWorker,
  adaptiveSyncQueue,
  adaptiveSyncWorker,
  webhookHealthCheckQueue,
  webhookHealthCheckWorker,
];
