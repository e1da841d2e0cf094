import { createClient } from 'redis';

const client = createClient();

export async function reset(): Promise<void> {
  await client.connect();
  await client.flushAll();
}
