export const redis = {
  host: process.env.REDIS_HOST || '127.0.0.1',
  port: parseInt(process.env.REDIS_PORT || '6379'),
  password: process.env.REDIS_PASSWORD,
};

export const settings = {
  drainDelay: Number(process.env.DRAIN_DELAY || 5),
  guardInterval: Number(process.env.GUARD_INTERVAL || 5000),
  stalledInterval: Number(process.env.STALLED_INTERVAL || 30000),
};
