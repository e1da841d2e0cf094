import Bull from 'bull';
import { redis, settings } from '../config';
import { work } from '../work';

export const tokenRefresh = new Bull('token-refresh', { redis, settings });

tokenRefresh.process(async (job) => {
  await work('token-refresh', job.data);
});

tokenRefresh.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});

export const webhookRenewal = new Bull('webhook-renewal', { redis, settings });

webhookRenewal.process(async (job) => {
  await work('webhook-renewal', job.data);
});

webhookRenewal.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});

export const notificationReminder = new Bull('notification-reminder', { redis, settings });

notificationReminder.process(async (job) => {
  await work('notification-reminder', job.data);
});

notificationReminder.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});

export const adaptiveSync = new Bull('adaptive-sync', { redis, settings });

adaptiveSync.process(async (job) => {
  await work('adaptive-sync', job.data);
});

adaptiveSync.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});

export const webhookHealthCheck = new Bull('webhook-health-check', { redis, settings });

webhookHealthCheck.process(async (job) => {
  await work('webhook-health-check', job.data);
});

webhookHealthCheck.on('completed', (job) => {
  console.log(`Job ${job.id} completed`);
});
