import { createClient } from 'redis';

const client = createClient();

export async function reset(names: string[]): Promise<void> {
  await client.connect();
  await client.unlink(names);
}
