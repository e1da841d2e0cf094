import express from 'express';
import Redis from 'ioredis';

const app = express();
const redis = new Redis();

app.get('/health', async (_req, res) => {
  res.send(await redis.ping());
});
