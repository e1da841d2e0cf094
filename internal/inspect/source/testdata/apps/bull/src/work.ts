export async function work(queue: string, data: unknown): Promise<void> {
  console.log(queue, data);
}
