package daemon

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lazurite.dev/internal/image"
)

const imageUsage = `Make container images and bring them to clusters.

    laz image build -t NAME [options] BINARY|FOLDER
    laz image load [--cluster C] FILE|FOLDER
    laz image list [--cluster C]

More of each: laz image load --help
`

// imageCommands are what may follow "laz image".
func imageCommands() map[string]func(context.Context, []string, Env) error {
	return map[string]func(context.Context, []string, Env) error{
		"build": imageBuild,
		"load":  imageLoad,
		"list":  imageList,
	}
}

func imageCommand(ctx context.Context, args []string, env Env) error {
	rest, err := parse(flag.NewFlagSet("image", flag.ContinueOnError), args, imageUsage, env)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return usage("say what: see laz image --help")
	}
	command, ok := imageCommands()[rest[0]]
	if !ok {
		return usage("there is no laz image %s; see laz image --help", rest[0])
	}
	return command(ctx, rest[1:], env)
}

const imageBuildUsage = `Make a container image of a static binary or a folder, without Docker.

    laz image build -t NAME[:TAG] [options] BINARY|FOLDER

    -t NAME[:TAG]       what the image is called, for example lazurite.dev/app:v1
    -o FILE             the docker archive to write; default: NAME.tar in this folder
    --load              bring it to clusters at once, as laz image load does; without
                        -o no file is written
    --cluster C         with --load, to this cluster alone
    --entrypoint WORDS  what starts; default for a binary: the binary
    --cmd WORDS         its arguments where a pod names none
    -e, --env KEY=VALUE set in its environment; may come more than once
    --user USER[:GROUP] who it runs as; default: 65532:65532, nobody special
    --workdir FOLDER    where it starts; default: /
    --label KEY=VALUE   a label of the image; may come more than once
    --expose PORT       a port that it serves; may come more than once

A binary must be static (Go: CGO_ENABLED=0). A folder becomes the root of the
container's file system. The same input gives the same bytes: all files belong
to root and are from 1970. Pods with an image of a tag other than latest use
what the cluster has, and ask no registry.

Example:
    CGO_ENABLED=0 go build -o app . && laz image build -t lazurite.dev/app:v1 app
`

func imageBuild(ctx context.Context, args []string, env Env) error {
	var c image.Config
	var out, entrypoint, cmd, cluster string
	var load bool
	fs := flag.NewFlagSet("image build", flag.ContinueOnError)
	fs.StringVar(&c.Name, "t", "", "")
	fs.StringVar(&out, "o", "", "")
	fs.BoolVar(&load, "load", false, "")
	fs.StringVar(&cluster, "cluster", "", "")
	fs.StringVar(&entrypoint, "entrypoint", "", "")
	fs.StringVar(&cmd, "cmd", "", "")
	fs.StringVar(&c.User, "user", "", "")
	fs.StringVar(&c.WorkingDir, "workdir", "", "")
	for _, name := range []string{"e", "env"} {
		fs.Func(name, "", func(v string) error { c.Env = append(c.Env, v); return nil })
	}
	fs.Func("expose", "", func(v string) error { c.Ports = append(c.Ports, v); return nil })
	fs.Func("label", "", func(v string) error {
		key, value, ok := strings.Cut(v, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q is not KEY=VALUE", v)
		}
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[key] = value
		return nil
	})
	sources, err := parseMixed(fs, args, imageBuildUsage, env)
	if err != nil {
		return err
	}
	if c.Name == "" || len(sources) != 1 {
		return usage("say the image's name and one binary or folder: laz image build -t NAME BINARY|FOLDER")
	}
	if cluster != "" && !load {
		return usage("--cluster says where to --load")
	}
	c.Entrypoint, c.Cmd = strings.Fields(entrypoint), strings.Fields(cmd)
	if out == "" && load {
		dir, err := os.MkdirTemp("", "laz-image-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		return buildAndLoad(ctx, sources[0], c, filepath.Join(dir, "image.tar"), cluster, env)
	}
	if out == "" {
		out = archiveName(c.Name)
	}
	if load {
		return buildAndLoad(ctx, sources[0], c, out, cluster, env)
	}
	if err := writeArchive(ctx, sources[0], c, out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "Built %s in %s.\n", c.Name, out)
	return err
}

func buildAndLoad(ctx context.Context, source string, c image.Config, out, cluster string, env Env) error {
	if err := writeArchive(ctx, source, c, out); err != nil {
		return err
	}
	args := []string{out}
	if cluster != "" {
		args = []string{"--cluster", cluster, out}
	}
	return imageLoad(ctx, args, env)
}

// archiveName is the last word of an image's name: app.tar of host/team/app:v1.
func archiveName(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, _, _ = strings.Cut(name, ":")
	return name + ".tar"
}

// writeArchive writes the archive under another name first: a file that is
// there stays as it is until the new one is whole.
func writeArchive(ctx context.Context, source string, c image.Config, out string) error {
	f, err := os.CreateTemp(filepath.Dir(out), ".laz-image-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	if err := image.Build(ctx, source, c, f); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(f.Name(), out)
}

// parseMixed reads flags before, between and after the arguments, and returns these.
func parseMixed(fs *flag.FlagSet, args []string, text string, env Env) ([]string, error) {
	var rest []string
	for {
		left, err := parse(fs, args, text, env)
		if err != nil || len(left) == 0 {
			return rest, err
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}
