package environment_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/environment"
)

func TestParseDockerfile(t *testing.T) {
	got, err := environment.ParseDockerfile("# syntax=docker/dockerfile:1\nARG TAG=v1\nFROM lazurite.dev/base:${TAG} AS one\n" +
		"ENV A=1 B=\"two $A words\" C='$A'\nENV OLD way of it\nLABEL who=\"me\"\n" +
		"COPY --chown=7:8 --chmod=0750 a b\\ c \\\n  # a comment\n  /to/${NONE:-x}/${A:+y}/\nADD [\"one file\", \"/x\"]\n" +
		"RUN pip install -r $A && true\nWORKDIR $A\nUSER 1000\nEXPOSE 80 443/tcp\nENTRYPOINT [\"a\", \"$A\"]\nCMD a $A\n")
	if err != nil {
		t.Fatal(err)
	}
	want := environment.Dockerfile{From: "lazurite.dev/base:v1", Instructions: []environment.Instruction{
		{Line: 4, Name: "ENV", Pairs: [][2]string{{"A", "1"}, {"B", "two  words"}, {"C", "$A"}}},
		{Line: 5, Name: "ENV", Pairs: [][2]string{{"OLD", "way of it"}}},
		{Line: 6, Name: "LABEL", Pairs: [][2]string{{"who", "me"}}},
		{Line: 7, Name: "COPY", Flags: map[string]string{"chown": "7:8", "chmod": "0750"}, Args: []string{"a", "b c", "/to/x/y/"}},
		{Line: 10, Name: "ADD", Args: []string{"one file", "/x"}},
		{Line: 11, Name: "RUN", Args: []string{"pip install -r $A && true"}},
		{Line: 12, Name: "WORKDIR", Args: []string{"1"}},
		{Line: 13, Name: "USER", Args: []string{"1000"}},
		{Line: 14, Name: "EXPOSE", Args: []string{"80", "443/tcp"}},
		{Line: 15, Name: "ENTRYPOINT", Args: []string{"a", "$A"}, Exec: true},
		{Line: 16, Name: "CMD", Args: []string{"a $A"}},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseDockerfile_WhatIsNotBuiltIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		"":                                         "no FROM",
		"COPY a b\nFROM a":                         "stands before FROM",
		"FROM a\nFROM b":                           "several stages",
		"FROM --platform=linux/arm64 a":            "FROM takes an image",
		"FROM scratch":                             "FROM scratch",
		"FROM a\nHEALTHCHECK NONE":                 "HEALTHCHECK is not built here",
		"FROM a\nCOPY --from=b c d":                "--from is not built here",
		"FROM a\nCOPY a":                           "where to",
		"FROM a\nRUN <<EOF\necho\nEOF":             "<<",
		"FROM a\nENV A":                            "is not NAME=VALUE",
		"FROM a\nENV A=\"b":                        "a quote is not closed",
		"FROM a\nENV A=${B#c}":                     "is no variable that can be read here",
		"FROM a\nUSER":                             "says nothing",
		"FROM a\nUSER a b":                         "takes one word",
		"# escape=`\nFROM a":                       "escape character",
		"FROM a" + strings.Repeat("\nUSER b", 300): "more than",
		strings.Repeat("#", 70<<10):                "bytes",
		"FROM a\nENV A=x" + strings.Repeat("\nENV A=$A$A", 40): "variables bring more",
	} {
		if _, err := environment.ParseDockerfile(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: wanted %q, got %v", text, want, err)
		}
	}
}

func FuzzParseDockerfile(f *testing.F) {
	for _, seed := range []string{
		"FROM a\nENV A=1 B=\"$A\"\nCOPY --chown=1 a b \\\n c/\nCMD [\"x\"]", "ARG A=${B:-c}\nFROM a:$A as b\nRUN pip install x==1 && conda env create -f y",
		"FROM 'a b'\nENV a 'b \\' c\nEXPOSE 1/udp\nWORKDIR \\$x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := environment.ParseDockerfile(text)
		if err == nil && d.From == "" {
			t.Errorf("%q has no base", text)
		}
		for _, i := range d.Instructions {
			if i.Line < 1 || len(i.Args)+len(i.Pairs) == 0 && i.Name != "ENV" && i.Name != "LABEL" && i.Name != "EXPOSE" {
				t.Errorf("%q gave %+v", text, i)
			}
		}
	})
}
