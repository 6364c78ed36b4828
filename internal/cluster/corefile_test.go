package cluster

import "testing"

func FuzzCorefile(f *testing.F) {
	f.Add(".:53 {\n    reload\n}\n")
	f.Add("a" + corefileBegin + "\nx\n" + corefileEnd + "\nb")
	f.Add(corefileBegin)
	f.Add(corefileEnd + corefileBegin)
	f.Fuzz(func(t *testing.T, corefile string) {
		bare := withoutBlock(corefile)
		one := withBlock(corefile, corefileBlock([]string{"*.a.example"}, "10.0.0.1"))
		if again := withBlock(one, corefileBlock([]string{"*.a.example"}, "10.0.0.1")); again != one && withoutBlock(bare+"\n") == bare+"\n" && !loose(bare) {
			t.Errorf("not the same twice: %q, %q", one, again)
		}
		if got := withoutBlock(one); got != bare && got != bare+"\n" && !loose(bare) {
			t.Errorf("got %q, want %q", got, bare)
		}
	})
}

// loose says whether a first line of ours stands there without its last:
// nobody can tell then what is ours.
func loose(corefile string) bool {
	return withoutBlock(corefile+"\n"+corefileEnd) != corefile+"\n"+corefileEnd
}

func TestReloads(t *testing.T) {
	for text, want := range map[string]bool{".:53 {\n    reload\n}": true, ".:53 {\n  reload 10s\n}": true, ".:53 {\n  # no reload\n}": false, "": false} {
		if got := reloads.MatchString(text); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
