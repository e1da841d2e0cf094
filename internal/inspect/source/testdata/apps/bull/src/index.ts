import * as sync from './jobs/sync';
import * as reminders from './jobs/reminders';

const queues = [...Object.values(sync), ...Object.values(reminders)];

void Promise.all(queues.map((queue) => queue.isReady())).then(() => console.log('ready'));
