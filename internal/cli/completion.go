package cli

import (
	"context"
	"fmt"
	"sort"
	"strings"
)

func completionNoun() noun {
	return noun{name: "completion", short: "Print a completion script for a shell.", commands: func() []*command {
		var cmds []*command
		for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
			cmds = append(cmds, &command{
				path: "completion " + shell, short: "Print the completion script for " + shell + ".",
				example: completionExample(shell), bare: true,
				run:  func(context.Context, *call) (any, error) { return completionScript(shell), nil },
				text: func(_ *call, v any) string { return scalar(v, "", "", "") },
			})
		}
		return cmds
	}}
}

func completionExample(shell string) string {
	switch shell {
	case "fish":
		return "completion fish | source"
	case "powershell":
		return "completion powershell | Out-String | Invoke-Expression"
	}
	return "completion " + shell + " >> ~/." + shell + "rc"
}

func completionScript(shell string) string {
	switch shell {
	case "bash":
		return `_laz_complete() {
  local IFS=$'\n'
  COMPREPLY=($("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _laz_complete laz az
`
	case "zsh":
		return `_laz_complete() {
  local -a found
  found=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -- $found
}
compdef _laz_complete laz az
`
	case "fish":
		return `function __laz_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete $words[2..-1] 2>/dev/null
end
complete -c laz -f -a '(__laz_complete)'
complete -c az -f -a '(__laz_complete)'
`
	default:
		return `Register-ArgumentCompleter -Native -CommandName laz, az -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { "$_" })
    if ($wordToComplete -eq '') { $words += '' }
    & "$($commandAst.CommandElements[0])" __complete @words | ForEach-Object { [System.Management.Automation.CompletionResult]::new($_) }
}
`
	}
}

// completeWords prints what may stand in place of the last word.
func completeWords(env Env, words []string) int {
	last := ""
	if len(words) > 0 {
		last, words = words[len(words)-1], words[:len(words)-1]
	}
	var found []string
	for _, w := range candidates(env, words) {
		if strings.HasPrefix(w, last) {
			found = append(found, w)
		}
	}
	sort.Strings(found)
	for i, w := range found {
		if i == 0 || w != found[i-1] {
			fmt.Fprintln(env.Stdout, w)
		}
	}
	return exitOK
}

func candidates(env Env, words []string) []string {
	head, _ := splitWords(words)
	if len(head) == 0 {
		return topWords(env)
	}
	cmd, used, _ := findCommand(head)
	if cmd != nil {
		return argCandidates(cmd, words[used:])
	}
	n, ok := findNoun(head[0])
	if !ok || used < len(head) {
		return nil
	}
	prefix := strings.Join(head, " ") + " "
	var out []string
	for _, c := range n.commands() {
		if rest, ok := strings.CutPrefix(c.path, prefix); ok {
			next, _, _ := strings.Cut(rest, " ")
			out = append(out, next)
		}
	}
	return out
}

func topWords(env Env) []string {
	var out []string
	for name := range env.Product {
		out = append(out, name)
	}
	for _, n := range nouns() {
		out = append(out, n.name)
	}
	return out
}

func argCandidates(cmd *command, words []string) []string {
	var out []string
	for _, a := range cmd.options() {
		if a.pos {
			continue
		}
		if len(words) > 0 && contains(a.spellings(), words[len(words)-1]) && len(a.choices) > 0 {
			return a.choices
		}
		out = append(out, a.spellings()...)
	}
	return out
}
