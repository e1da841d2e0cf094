export const QUEUES = {
  SUGGESTION_GENERATION: 'suggestion-generation',
  BATCH_NOTIFICATIONS: 'batch-notifications',
  CALENDAR_SYNC: 'calendar-sync',
  SUGGESTION_REGENERATION: 'suggestion-regeneration',
  GOOGLE_CONTACTS_SYNC: 'google-contacts-sync',
  TOKEN_HEALTH_REMINDER: 'token-health-reminder',
  TOKEN_REFRESH: 'token-refresh',
  WEBHOOK_RENEWAL: 'webhook-renewal',
  NOTIFICATION_REMINDER: 'notification-reminder',
  ADAPTIVE_SYNC: 'adaptive-sync',
  WEBHOOK_HEALTH_CHECK: 'webhook-health-check',
} as const;

export type QueueName = (typeof QUEUES)[keyof typeof QUEUES];
