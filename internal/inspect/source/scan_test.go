package source

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write puts files into a new directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for rel, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(rel))
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestConnectionsAreCountedAsTheCodeRuns(t *testing.T) {
	const bullmq = "import { Queue, Worker, QueueEvents, FlowProducer } from 'bullmq'; const connection = { host: 'h' };\n"
	const ioredis = "import Redis from 'ioredis';\n"
	for _, tc := range []struct {
		name, code string
		want       Range
	}{
		{"a queue opens one", bullmq + "new Queue('a', { connection })", Range{Min: 1, Max: 1}},
		{"a worker opens two", bullmq + "new Worker('a', null, { connection })", Range{Min: 2, Max: 2}},
		{"events and flows open one each", bullmq + "new QueueEvents('a', { connection }); new FlowProducer({ connection })", Range{Min: 2, Max: 2}},
		{"a producer of Bull opens one", "import Bull from 'bull'; new Bull('a')", Range{Min: 1, Max: 1}},
		{"a listener for global events opens a subscriber", "import Bull from 'bull'; new Bull('a').on('global:completed', () => {})", Range{Min: 2, Max: 2}},
		{"CommonJS and a call without new", "const Bull = require('bull'); const q = Bull('a'); q.process(3, async () => {})", Range{Min: 3, Max: 3}},
		{"a loop with a counter", bullmq + "for (let i = 0; i < 4; i++) new Queue(`q${i}`, { connection })", Range{Min: 4, Max: 4}},
		{"a nested loop", bullmq + "for (const a of ['x', 'y']) ['1', '2', '3'].forEach((b) => new Queue(a + b, { connection }))", Range{Min: 6, Max: 6}},
		{"Array.from with a length", bullmq + "Array.from({ length: 5 }, (_, i) => new Worker('w', null, { connection, name: `${i}` }))", Range{Min: 10, Max: 10}},
		{"an unknown list is open above", bullmq + "for (const a of JSON.parse(process.env.QUEUES)) new Queue(a, { connection })", Range{Min: 0, Max: 1, Open: true}},
		{"a condition is a range", bullmq + "if (process.env.WORK === 'yes') new Worker('a', null, { connection })", Range{Min: 0, Max: 2}},
		{"ways exclude each other", bullmq + "if (process.env.A) { new Queue('a', { connection }) } else { new Queue('a', { connection }); new Queue('b', { connection }) }", Range{Min: 1, Max: 2}},
		{"what follows an early return", bullmq + "function f() { if (process.env.OFF) return; new Queue('a', { connection }) } f()", Range{Min: 0, Max: 1}},
		{"a missing variable that throws is taken to be there", bullmq + "function f() { if (!process.env.URL) throw new Error('x'); new Queue('a', { connection }) } f()", Range{Min: 1, Max: 1}},
		{"a default holds", bullmq + "const n = Number(process.env.N ?? 3); for (let i = 0; i < n; i++) new Queue('q', { connection })", Range{Min: 3, Max: 3}},
		{"a singleton", ioredis + "let c; function get() { c ??= new Redis(); return c } get(); get()", Range{Min: 1, Max: 1}},
		{"a registry", bullmq + "const m = new Map(); const q = (n) => { if (!m.has(n)) m.set(n, new Queue(n, { connection })); return m.get(n) }; q('a'); q('b'); q('a')", Range{Min: 2, Max: 2}},
		{"a class with fields and a subclass", bullmq + "class Base { q = new Queue(this.n(), { connection }); n() { return 'x' } } class A extends Base { w = new Worker('x', null, { connection }) } new A(); new A()", Range{Min: 6, Max: 6}},
		{"a class that extends Worker", bullmq + "class Mail extends Worker { constructor() { super('mail', async () => {}, { connection }) } } new Mail()", Range{Min: 2, Max: 2}},
		{"a shared instance and its duplicates", ioredis + bullmq + "const shared = new Redis(); new Queue('a', { connection: shared }); new Queue('b', { connection: shared }); shared.duplicate()", Range{Min: 2, Max: 2}},
		{"a connection that is not known may be shared", bullmq + "import { c } from 'somewhere'; new Worker('a', null, { connection: c })", Range{Min: 1, Max: 2}},
		{"a lazy client that nothing uses may stay closed", ioredis + "export const r = new Redis({ lazyConnect: true })", Range{Min: 0, Max: 1}},
		{"node-redis connects when told to", "import { createClient } from 'redis'; const c = createClient(); await c.connect()", Range{Min: 1, Max: 1}},
		{"HTTP holds none", "import { Redis } from '@upstash/redis'; export const r = Redis.fromEnv()", Range{}},
		{"bee-queue opens three", "import Bee from 'bee-queue'; new Bee('a')", Range{Min: 3, Max: 3}},
		{"a producer of bee-queue opens one", "import Bee from 'bee-queue'; new Bee('a', { isWorker: false, getEvents: false })", Range{Min: 1, Max: 1}},
		{"a function that nothing calls may be called", bullmq + "export function later() { return new Queue('a', { connection }) }", Range{Min: 0, Max: 1}},
		{"every request", ioredis + "import express from 'express'; const app = express(); app.get('/', () => { new Redis() })", Range{Min: 0, Max: 1, Open: true}},
		{"after listening", bullmq + "import express from 'express'; express().listen(80, () => { new Queue('a', { connection }) })", Range{Min: 1, Max: 1}},
		{"a recursion ends", bullmq + "function f(n) { if (n > 0) { new Queue('a', { connection }); f(n - 1) } } f(3)", Range{Min: 3, Max: 3}},
		{"a recursion without an end ends too", "import Bull from 'bull'; function f(n) { f(n + 1) } f(0); new Bull('a')", Range{Min: 1, Max: 1}},
		{"an endless loop ends", "import Bull from 'bull'; while (true) { await x() } new Bull('a')", Range{Min: 1, Max: 1}},
		{"an enum names queues", bullmq + "enum Q { A = 'a', B = 'b' } for (const q of Object.values(Q)) new Queue(q, { connection })", Range{Min: 2, Max: 2}},
		{"a switch over a known value", bullmq + "function f(k) { switch (k) { case 'a': return new Queue('a', { connection }); default: return null } } f('a'); f('b')", Range{Min: 1, Max: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := scanDir(t, write(t, map[string]string{"app.mts": tc.code}))
			if r.Connections != tc.want {
				t.Errorf("connections = %+v, want %+v", r.Connections, tc.want)
			}
			if tc.want.Exact() != (len(r.Unresolved) == 0) {
				t.Errorf("unresolved = %+v for %+v", r.Unresolved, tc.want)
			}
		})
	}
}

func TestAWrapperIsFollowedToItsClient(t *testing.T) {
	r := scanDir(t, write(t, map[string]string{
		"redis.ts": `import { Redis } from '@upstash/redis';
class Wrapper {
  private client: Redis;
  constructor() { this.client = new Redis({ url: process.env.URL!, token: process.env.TOKEN! }); }
  async get<T>(key: string) { return this.client.get<T>(key); }
  async zadd(key: string, score: number, member: string) { await this.client.zadd(key, { score, member }); }
  async zcard(key: string) { return this.client.zcard(key); }
  async drop(pattern: string) { for (const key of await this.client.keys(pattern)) await this.client.del(key); }
}
export const redis = new Wrapper();
`,
		"use.ts": `import { redis } from './redis';
export async function check(user: string) {
  await redis.zadd(user, Date.now(), String(Date.now()));
  return (await redis.zcard(user)) <= 60;
}
export const load = async (key: string) => JSON.parse((await redis.get<string>(key))!);
`,
	}))
	at := map[string]string{}
	for _, f := range r.Findings {
		at[f.Rule] = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	want := map[string]string{
		"keys-command": "redis.ts:8", "limiter-order": "use.ts:3", "limiter-member-collides": "use.ts:3", "json-parse-twice": "use.ts:6",
	}
	if diff := cmp.Diff(want, at); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestModulesOfNestJSAreStartedAsTheFrameworkDoes(t *testing.T) {
	const main = "import { NestFactory } from '@nestjs/core'; import { AppModule } from './app'; void NestFactory.create(AppModule);"
	for _, tc := range []struct {
		name, app string
		want      Range
	}{
		{"Bull with a processor", `import { Module } from '@nestjs/common'; import { BullModule, Processor, Process } from '@nestjs/bull';
@Processor('mail') class P { @Process() async run() {} }
@Module({ imports: [BullModule.forRoot({ redis: { host: 'h' } }), BullModule.registerQueue({ name: 'mail' })], providers: [P] }) export class AppModule {}`, Range{Min: 3, Max: 3}},
		{"Bull that only adds jobs", `import { Module } from '@nestjs/common'; import { BullModule } from '@nestjs/bull';
@Module({ imports: [BullModule.registerQueue({ name: 'mail' }, { name: 'sms' })] }) export class AppModule {}`, Range{Min: 2, Max: 2}},
		{"BullMQ with an instance that is injected", `import { Module, Global } from '@nestjs/common'; import { BullModule, Processor, WorkerHost } from '@nestjs/bullmq'; import Redis from 'ioredis';
@Global() @Module({ providers: [{ provide: 'REDIS', useFactory: () => new Redis({ maxRetriesPerRequest: null }) }], exports: ['REDIS'] }) class RedisModule {}
@Processor('mail') class P extends WorkerHost { async process() {} }
@Module({ imports: [RedisModule, BullModule.forRootAsync({ inject: ['REDIS'], useFactory: (connection) => ({ connection }) }), BullModule.registerQueue({ name: 'mail' })], providers: [P] }) export class AppModule {}`, Range{Min: 2, Max: 2}},
		{"a service that makes a client when it starts", `import { Module, Injectable } from '@nestjs/common'; import Redis from 'ioredis';
@Injectable() class S { private redis: Redis; onModuleInit() { this.redis = new Redis(); } }
@Module({ providers: [S] }) class Inner {}
@Module({ imports: [Inner, Inner] }) export class AppModule {}`, Range{Min: 1, Max: 1}},
		{"a module with a function of its own", `import { Module } from '@nestjs/common'; import { BullModule } from '@nestjs/bullmq';
@Module({}) class Jobs { static forRoot(names: string[]) { return { module: Jobs, imports: names.map((name) => BullModule.registerQueue({ name, connection: { host: 'h' } })) }; } }
@Module({ imports: [Jobs.forRoot(['a', 'b', 'c'])] }) export class AppModule {}`, Range{Min: 3, Max: 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := scanDir(t, write(t, map[string]string{"main.ts": main, "app.ts": tc.app}))
			if r.Connections != tc.want {
				t.Errorf("connections = %+v, want %+v; %+v", r.Connections, tc.want, r.Unresolved)
			}
		})
	}
}

func TestEveryProcessIsCountedForItself(t *testing.T) {
	dir := write(t, map[string]string{
		"package.json": `{"name":"shop","scripts":{"start":"node dist/web.js","start:worker":"node ./dist/worker.js","dev":"tsx src/dev.ts","test":"vitest"},
			"dependencies":{"bullmq":"^5.1.0"}}`,
		"package-lock.json": `{"packages":{"node_modules/bullmq":{"version":"5.81.5"}}}`,
		"src/queue.ts":      "import { Queue } from 'bullmq'; export const mail = new Queue('mail', { connection: { host: 'h' } });",
		"src/web.ts":        "import { mail } from './queue'; export const send = () => mail.add('one', {});",
		"src/worker.ts":     "import './queue'; import { Worker } from 'bullmq'; new Worker('mail', async () => {}, { connection: { host: 'h' } });",
		"src/dev.ts":        "import { Queue } from 'bullmq'; new Queue('dev', {});",
		"src/web.test.ts":   "import { Queue } from 'bullmq'; new Queue('test', {});",
	})
	r, err := Scan(t.Context(), dir, Options{Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Range{}
	for _, p := range r.Processes {
		got[p.Name] = p.Connections
	}
	if got["start (src/web.ts)"] != (Range{Min: 1, Max: 1}) || got["start:worker (src/worker.ts)"] != (Range{Min: 3, Max: 3}) {
		t.Errorf("processes = %+v, want web 1 and worker 3", got)
	}
	if r.Connections != (Range{Min: 12, Max: 12}) || r.RollingDeploy != (Range{Min: 24, Max: 24}) {
		t.Errorf("connections = %+v, rolling deploy %+v, want 12 and 24", r.Connections, r.RollingDeploy)
	}
	// src/dev.ts is started by nothing in production: it is named, and does not count.
	if got["not started (src/dev.ts)"] != (Range{Max: 1}) || len(r.Missing) != 1 || !strings.Contains(r.Missing[0], "src/dev.ts") {
		t.Errorf("processes = %+v, missing %q, want src/dev.ts named", got, r.Missing)
	}
	if len(r.Packages) != 1 || r.Packages[0].Locked != "5.81.5" {
		t.Errorf("packages = %+v, want bullmq 5.81.5", r.Packages)
	}
	one, err := Scan(t.Context(), dir, Options{Entries: []string{"src/worker.ts"}, Exclude: []string{"dev.ts", "web.ts"}})
	if err != nil || one.Connections != (Range{Min: 3, Max: 3}) {
		t.Errorf("one entry: %+v, %v, want 3", one, err)
	}
	if _, err := Scan(t.Context(), dir, Options{Entries: []string{"nothing.ts"}}); err == nil {
		t.Error("an entry that is not there was accepted")
	}
}

func TestWhatCannotBeReadIsSkippedCountedAndDoesNotStopTheScan(t *testing.T) {
	dir := write(t, map[string]string{
		"app.ts":                   "import Bull from 'bull'; new Bull('a');",
		"broken.ts":                "import { = } from 'x';",
		"broken.go":                "package x\nimport \"github.com/hibiken/asynq\"\nfunc {",
		"bundle.js":                "var a=1;" + strings.Repeat("a=a+1;", 2000),
		"jquery.min.js":            "var a;",
		"huge.ts":                  strings.Repeat("// nothing here\n", 1<<17),
		"node_modules/bull/lib.js": "require('bull')('x')",
		"dist/app.js":              "require('bull')('x')",
		"old/left.ts":              "import Bull from 'bull'; new Bull('left');",
		"package.json":             "{ not json",
		"tsconfig.json":            "{ // a comment\n \"compilerOptions\": { \"paths\": { \"*\": [\"./\"], }, /* and */ } }",
		"bytes.ts":                 "\xff\xfe\x00import",
	})
	if err := os.Symlink(dir, filepath.Join(dir, "loop")); err != nil {
		t.Skip("no symbolic links here: " + err.Error())
	}
	r, err := Scan(t.Context(), dir, Options{Exclude: []string{"old"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Connections != (Range{Min: 1, Max: 1}) {
		t.Errorf("connections = %+v, want 1", r.Connections)
	}
	want := Skipped{Directories: 2, Links: 1, Huge: 1, Minified: 2, Excluded: 1, Unreadable: 1}
	if r.Files.Skipped != want {
		t.Errorf("skipped = %+v, want %+v", r.Files.Skipped, want)
	}
	broken := of(r, "syntax-error")
	if len(broken) < 2 || broken[0].Line == 0 {
		t.Errorf("syntax errors = %+v, want broken.go and broken.ts with their lines", broken)
	}
}

func TestASecretThatGitKeepsIsNamedAndNotShown(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("needs git")
	}
	dir := write(t, map[string]string{
		".env":               "# a comment\nNODE_ENV=production\nUPSTASH_REDIS_REST_TOKEN=hunter2\nREDIS_URL=rediss://default:hunter3@h:6379\nEMPTY_SECRET=\n",
		"sub/.env.local":     "API_TOKEN=hunter4",
		"sub/.env.example":   "API_TOKEN=put-yours-here",
		"sub/app.ts":         "export {}",
		"sub/ignored/.env":   "API_TOKEN=hunter5",
		"sub/ignored/app.ts": "export {}",
	})
	for _, args := range [][]string{{"init", "-q"}, {"add", ".env", "sub/.env.local", "sub/.env.example"}} {
		cmd := exec.CommandContext(t.Context(), git, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	found := of(scanDir(t, dir), "env-file-tracked")
	if len(found) != 2 || found[0].File != ".env" || found[0].Line != 3 || !strings.Contains(found[0].Message, "UPSTASH_REDIS_REST_TOKEN, REDIS_URL") {
		t.Errorf("found %+v, want .env:3 and sub/.env.local", found)
	}
	for _, f := range found {
		if strings.Contains(f.Message+f.Remedy+f.Subject, "hunter") {
			t.Errorf("a secret is shown: %+v", f)
		}
	}
	below := of(scanDir(t, filepath.Join(dir, "sub")), "env-file-tracked")
	if len(below) != 1 || below[0].File != ".env.local" {
		t.Errorf("from below: %+v, want .env.local", below)
	}
}

func TestOptionsOutOfRangeAreAllReported(t *testing.T) {
	_, err := Scan(t.Context(), ".", Options{Replicas: -1, Budget: -1, Exclude: []string{"["}})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 3 {
		t.Errorf("Scan = %v, want three problems", err)
	}
	if _, err := Scan(t.Context(), "testdata/nowhere", Options{}); !os.IsNotExist(err) {
		t.Errorf("Scan = %v, want not exist", err)
	}
}

func FuzzScan(f *testing.F) {
	for _, pattern := range []string{"testdata/rules/*/bad/*.ts", "testdata/apps/*/src/*.ts"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(src))
		}
	}
	f.Add("import Bull from 'bull'; for (const a of [1, 2]) new Bull(`${a}`)")
	f.Add("import { Queue } from 'bullmq'; class A extends Queue { static { new A() } }; A?.b ?? c")
	f.Add("const [{ a = 1, ...b }, ...c] = d; switch (a) { case 1: break; default: a() }")
	f.Fuzz(func(t *testing.T, src string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.ts"), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Scan(t.Context(), dir, Options{}); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzGitIndex(f *testing.F) {
	f.Add([]byte("DIRC\x00\x00\x00\x02\x00\x00\x00\x01"))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = parseIndex(data, "") })
}
