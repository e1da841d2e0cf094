package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckFindsWhatOnlyOnePlatformHas(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":          "module example.com/m\n\ngo 1.24\n",
		"main.go":         "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(word) }\n",
		"word_linux.go":   "package main\n\nvar word = \"linux\"\n",
		"word_windows.go": "package main\n\nvar word = 1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	cases := []struct{ name, platform, want string }{
		{"a platform where all is well", "linux/arm64", ""},
		{"a variable of another type", "windows/arm64", "cannot use word (variable of type int) as string value"},
		{"a file that is missing", "darwin/amd64", "undefined: word"},
		{"no platform at all", "linux", "want OS/ARCH"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := check(t.Context(), ".", c.platform)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("check(%q) = %v, want %q", c.platform, err, c.want)
			}
		})
	}
}
