package daemon

import "testing"

func TestProgramPart(t *testing.T) {
	const exe = "/usr/bin/laz"
	for line, want := range map[string]bool{
		"00400000-013bd000 r-xp 00000000 fe:00 123                       /usr/bin/laz":               true,
		"013bd000-0233f000 r--p 00fbd000 fe:00 123                       /usr/bin/laz":               true,
		"0233f000-023d7000 rw-p 01f3f000 fe:00 123                       /usr/bin/laz":               false,
		"7f0000000000-7f0000001000 r-xp 00000000 fe:00 9                 /usr/bin/other/usr/bin/laz": false,
		"7fff00000000-7fff00002000 r-xp 00000000 00:00 0                 [vdso]":                     false,
		"nonsense": false,
	} {
		from, to, ok := programPart(line, exe)
		if ok != want || ok && from >= to {
			t.Errorf("%s: %x-%x %v", line, from, to, ok)
		}
	}
	releaseProgram() // and the test goes on
}
