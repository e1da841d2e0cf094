package source

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// generate writes an application of about so many lines: components, services and routes that import
// one another, two in a hundred of which use a queue or a client, all reached from one entry point.
func generate(tb testing.TB, dir string, lines int) {
	tb.Helper()
	const perFile = 250
	files := lines / perFile
	put := func(rel, text string) {
		file := filepath.Join(dir, filepath.FromSlash(rel))
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	put("package.json", `{"name":"big","scripts":{"start":"node dist/index.js"},"dependencies":{"bullmq":"^5.0.0"}}`)
	put("src/jobs/factory.ts", `import { Queue, Worker } from 'bullmq';
const connection = { host: 'localhost' };
export const createQueue = (name: string) => new Queue(name, { connection });
export const createWorker = (name: string) => new Worker(name, async (job) => job.data, { connection });
`)
	var index strings.Builder
	for i := range files {
		fmt.Fprintf(&index, "import { service%d } from './area%d/service%d';\n", i, i%40, i)
		put(fmt.Sprintf("src/area%d/service%d.ts", i%40, i), service(i, files, perFile))
	}
	index.WriteString("export const all = [\n")
	for i := 0; i < files; i += 10 {
		fmt.Fprintf(&index, "  service%d,\n", i)
	}
	index.WriteString("];\n")
	put("src/index.ts", index.String())
}

func service(i, files, lines int) string {
	var b strings.Builder
	other := (i * 7) % files
	if other != i {
		fmt.Fprintf(&b, "import { service%d } from '../area%d/service%d';\n", other, other%40, other)
	}
	if i%50 == 0 {
		fmt.Fprintf(&b, "import { createQueue, createWorker } from '../jobs/factory';\nexport const queue%d = createQueue('queue-%d');\ncreateWorker('queue-%d');\n", i, i, i)
	}
	fmt.Fprintf(&b, "export interface Options%d { retries?: number; name: string; tags: ReadonlyArray<string> }\n", i)
	fmt.Fprintf(&b, "export class Service%d<T extends Options%d> {\n  private readonly seen = new Map<string, T>();\n  constructor(private readonly options: T) {}\n", i, i)
	for n := strings.Count(b.String(), "\n"); n < lines-8; n += 9 {
		fmt.Fprintf(&b, `  async handle%d(input: { id: string; value?: number }, ...rest: unknown[]): Promise<T | undefined> {
    const key = %s;
    const { id, value = %d, ...others } = { ...input, rest };
    if (!this.seen.has(key) && (value ?? 0) > %d) {
      this.seen.set(key, { ...this.options, name: id, ...others } as T);
    }
    const found = [...this.seen.values()].filter((it) => it.name?.startsWith(id)).map((it) => it.tags.length);
    return found.length > 0 ? this.seen.get(key) : undefined;
  }
`, n, "`${input.id}:${this.options.name}`", n, n*3)
	}
	fmt.Fprintf(&b, "}\n\nexport const service%d = new Service%d({ name: 'service-%d', tags: ['a', 'b'] });\n", i, i, i)
	if other != i {
		fmt.Fprintf(&b, "export const next%d = () => service%d;\n", i, other)
	}
	return b.String()
}

// BenchmarkAMillionLines scans a tree of 1,000,000 lines of TypeScript on two cores. The promise is
// less than 20 s and less than 1 GiB.
func BenchmarkAMillionLines(b *testing.B) {
	dir := b.TempDir()
	generate(b, dir, 1_000_000)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	for b.Loop() {
		peak, stop := watchMemory()
		begin := time.Now()
		r, err := Scan(b.Context(), dir, Options{})
		took := time.Since(begin)
		stop()
		if err != nil {
			b.Fatal(err)
		}
		if !r.Connections.Exact() || r.Connections.Min != 3*80 {
			b.Fatalf("connections = %+v, want 240; missing %q", r.Connections, r.Missing)
		}
		b.ReportMetric(float64(r.Files.Lines)/took.Seconds(), "lines/s")
		b.ReportMetric(float64(peak.Load())/(1<<20), "peak-MiB")
	}
}

// watchMemory samples what the process holds from the operating system.
func watchMemory() (peak *atomic.Uint64, stop func()) {
	peak = new(atomic.Uint64)
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
			metrics.Read(sample)
			peak.Store(max(peak.Load(), sample[0].Value.Uint64()-sample[1].Value.Uint64()))
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return peak, func() { close(done); <-over }
}
