import Bull from 'bull';
import { redis, settings } from '../config';
import { work } from '../work';

export const suggestionGeneration = new Bull('suggestion-generation', { redis, settings });

suggestionGeneration.process(async (job) => {
  await work('suggestion-generation', job.data);
});

suggestionGeneration.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});

export const batchNotifications = new Bull('batch-notifications', { redis, settings });

batchNotifications.process(async (job) => {
  await work('batch-notifications', job.data);
});

batchNotifications.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});

export const calendarSync = new Bull('calendar-sync', { redis, settings });

calendarSync.process(async (job) => {
  await work('calendar-sync', job.data);
});

calendarSync.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});

export const suggestionRegeneration = new Bull('suggestion-regeneration', { redis, settings });

suggestionRegeneration.process(async (job) => {
  await work('suggestion-regeneration', job.data);
});

suggestionRegeneration.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});

export const googleContactsSync = new Bull('google-contacts-sync', { redis, settings });

googleContactsSync.process(async (job) => {
  await work('google-contacts-sync', job.data);
});

googleContactsSync.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});

export const tokenHealthReminder = new Bull('token-health-reminder', { redis, settings });

tokenHealthReminder.process(async (job) => {
  await work('token-health-reminder', job.data);
});

tokenHealthReminder.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});
