import { beforeEach, afterEach } from 'node:test';
import { hooks } from '../../deploy/node/redisopt-record.js';

hooks({ beforeEach, afterEach, name: (t) => t.fullName ?? t.name });
