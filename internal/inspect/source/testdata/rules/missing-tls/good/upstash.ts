import Redis from 'ioredis';

export const redis = new Redis({ host: 'eu1-first-fish-1.upstash.io', port: 6379, tls: {} });
export const other = new Redis('rediss://eu1-first-fish-1.upstash.io:6379');
