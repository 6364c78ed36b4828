package daemon

import (
	"context"
	"flag"
	"fmt"

	"lazurite.dev/internal/server"
)

const rotateUsage = `Change the keys of this cloud.

    laz rotate token-key [--now]
    laz rotate root-key [--drop-old]

    token-key   a new key that signs access tokens. It is published at once and
                signs after an hour, so that whoever keeps the key set has it by
                then; tokens that the old key signed stay good until they expire
    --now       the new key signs at once
    root-key    a new key under which the data keys of all vaults, of token keys
                and of clusters are wrapped again; what is sealed stays as it is
    --drop-old  in place of a new key, forget all root keys but the newest

One vault alone is wrapped again by: laz keyvault rewrap --name VAULT

With several replicas all must read the same root key file. Drop old keys when
every replica has it.

Example:
    laz rotate root-key && laz rotate root-key --drop-old
`

func rotate(ctx context.Context, args []string, env Env) error {
	fs := flag.NewFlagSet("rotate", flag.ContinueOnError)
	var q server.RotateRequest
	fs.BoolVar(&q.Now, "now", false, "")
	fs.BoolVar(&q.DropOld, "drop-old", false, "")
	rest, err := parse(fs, args, rotateUsage, env)
	if err != nil {
		return err
	}
	var what string
	if len(rest) > 0 {
		what = rest[0]
		if rest, err = parse(fs, rest[1:], rotateUsage, env); err != nil { // options after the word
			return err
		}
		if err := noMore(rest); err != nil {
			return err
		}
	}
	switch {
	case what != "token-key" && what != "root-key":
		return usage("say what: laz rotate token-key, or laz rotate root-key")
	case q.Now && what != "token-key":
		return usage("--now is of token-key")
	case q.DropOld && what != "root-key":
		return usage("--drop-old is of root-key")
	}
	h, err := home(env)
	if err != nil {
		return err
	}
	if _, running, err := h.Running(); err != nil || !running {
		if err == nil {
			err = errNotRunning(h)
		}
		return err
	}
	var a server.RotateAnswer
	if err := ask(ctx, h, "/v1/rotate/"+what, q, &a); err != nil {
		return err
	}
	switch {
	case what == "token-key":
		fmt.Fprintf(env.Stdout, "New token key %s: it signs from %s.\n", a.KeyID, a.SignFrom.Local().Format("2006-01-02 15:04:05"))
	case q.DropOld:
		fmt.Fprintf(env.Stdout, "The old root keys are forgotten; all data keys (%d) are under the newest.\n", a.DataKeys)
	default:
		fmt.Fprintf(env.Stdout, "New root key: all data keys (%d) are under it. To forget the old ones: laz rotate root-key --drop-old\n", a.DataKeys)
	}
	return nil
}
