export const idle = {
  drainDelay: Number(process.env.DRAIN_DELAY || 5),
  stalledInterval: Number(process.env.STALLED_INTERVAL || 30000),
};
