import express from 'express';
import Redis from 'ioredis';

const app = express();

app.get('/health', async (_req, res) => {
  const redis = new Redis();
  res.send(await redis.ping());
});
