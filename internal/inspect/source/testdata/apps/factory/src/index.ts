async function main(): Promise<void> {
  const { everything } = await import('./queues');
  await Promise.all(everything.map((it) => it.waitUntilReady()));
  console.log('ready');
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
