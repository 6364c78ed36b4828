package blob

import (
	"strings"
	"testing"
)

func TestParseBlockList(t *testing.T) {
	got, err := parseBlockList([]byte("\ufeff<?xml version=\"1.0\"?>\n<BlockList>\n <Committed>QQ==</Committed><Latest> Qg== </Latest><Uncommitted>Qw==</Uncommitted></BlockList>"))
	want := []listed{{"QQ==", "Committed"}, {"Qg==", "Latest"}, {"Qw==", "Uncommitted"}}
	if err != nil || len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{
		"", "x", "<BlockList>", "<Other/>", "<BlockList><Block>QQ==</Block></BlockList>", "<BlockList><Latest><x/></Latest></BlockList>",
		"<!DOCTYPE x [<!ENTITY e 'x'>]><BlockList><Latest>&e;</Latest></BlockList>", strings.Repeat("<BlockList>", 100),
	} {
		if got, err := parseBlockList([]byte(bad)); err == nil {
			t.Errorf("%q was taken as %v", bad, got)
		}
	}
	many := "<BlockList>" + strings.Repeat("<Latest>QQ==</Latest>", maxBlocks+1) + "</BlockList>"
	if _, err := parseBlockList([]byte(many)); err == nil {
		t.Error("too many blocks were taken")
	}
}

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		v    string
		want span
		bad  bool
	}{
		{"", span{0, 10, false}, false}, {"bytes=0-", span{0, 10, true}, false}, {"bytes=2-4", span{2, 3, true}, false}, {"bytes=2-400", span{2, 8, true}, false},
		{"bytes=9-9", span{9, 1, true}, false}, {"bytes=10-", span{}, true}, {"bytes=-3", span{0, 10, false}, false}, {"bytes=4-2", span{0, 10, false}, false},
		{"bytes=0-1,3-4", span{0, 10, false}, false}, {"lines=1-2", span{0, 10, false}, false}, {"bytes=99999999999999999999-", span{0, 10, false}, false},
	} {
		got, err := parseRange(c.v, 10)
		if (err != nil) != c.bad || !c.bad && got != c.want {
			t.Errorf("%q: %+v %v", c.v, got, err)
		}
	}
}

// FuzzParseBlockList: what is taken has only kinds that are known.
func FuzzParseBlockList(f *testing.F) {
	f.Add([]byte("<BlockList><Latest>QQ==</Latest></BlockList>"))
	f.Add([]byte("<?xml version=\"1.0\"?><BlockList/>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := parseBlockList(raw)
		for _, l := range list {
			if err == nil && l.from != "Committed" && l.from != "Uncommitted" && l.from != "Latest" {
				t.Errorf("%+v", l)
			}
		}
		_, _ = parseKeyInfo(raw)
	})
}

// FuzzParseRange: a range is always within the content.
func FuzzParseRange(f *testing.F) {
	f.Add("bytes=0-5", int64(10))
	f.Add("bytes=5-", int64(0))
	f.Fuzz(func(t *testing.T, v string, size int64) {
		if size < 0 {
			return
		}
		s, err := parseRange(v, size)
		if err == nil && (s.from < 0 || s.size < 0 || s.from+s.size > size || s.part && s.size == 0) {
			t.Errorf("%q of %d: %+v", v, size, s)
		}
	})
}
