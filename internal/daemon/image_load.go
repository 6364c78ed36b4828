package daemon

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/image"
	"lazurite.dev/internal/server"
)

const imageLoadUsage = `Bring images to the nodes of clusters, without a registry.

    laz image load [--cluster C] [--name NAME] FILE|FOLDER…

    FILE|FOLDER  a docker archive (docker save, laz image build), or an OCI layout
                 in a tar or a folder; either tar may be gzipped
    --cluster C  name or resource id; without it, all that run, and those that are
                 made later
    --name NAME  what the only image in it is called

Nodes that are added later get the images too. Pods use them where their
imagePullPolicy is not Always, which is what a tag other than latest implies.

Example:
    laz image load app.tar && kubectl run app --image lazurite.dev/app:v1
`

const imageListUsage = `List the images that clusters have.

    laz image list [--cluster C] [-o json]

    --cluster C  name or resource id; without it, all that run
`

func imageLoad(ctx context.Context, args []string, env Env) error {
	fs := flag.NewFlagSet("image load", flag.ContinueOnError)
	name, only := fs.String("name", "", ""), fs.String("cluster", "", "")
	fs.StringVar(only, "c", "", "")
	files, err := parseMixed(fs, args, imageLoadUsage, env)
	if err != nil {
		return err
	}
	if len(files) == 0 || *name != "" && len(files) > 1 {
		return usage("which image? laz image load [--cluster C] FILE|FOLDER")
	}
	var found []server.ClusterState
	h, err := runningHome(env)
	if err == nil && *only != "" {
		h, found, err = clustersOf(ctx, *only, env)
	}
	if err != nil {
		return err
	}
	for _, file := range files {
		archive, err := image.Open(file, *name)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if *only == "" {
			err = loadForAll(ctx, h, archive, env)
		} else {
			err = loadInto(ctx, h, found, archive, env)
		}
		if err := archive.Close(); err != nil {
			warn(env.Stderr, "%v", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// loadForAll sends an archive to the server, for all clusters.
func loadForAll(ctx context.Context, h server.Home, archive *image.Archive, env Env) error {
	a, err := upload(ctx, h, "/v1/images", "Loading", archive, env)
	if err != nil {
		return err
	}
	for _, n := range a.Names {
		into := "kept for clusters to come"
		if len(a.Clusters) > 0 {
			into = "into " + strings.Join(a.Clusters, ", ") + "; " + into
		}
		if _, err := fmt.Fprintf(env.Stdout, "Loaded %s: %s.\n", n, into); err != nil {
			return err
		}
	}
	return nil
}

// upload sends an archive and returns the answer, its names in order.
func upload(ctx context.Context, h server.Home, path, what string, archive *image.Archive, env Env) (server.ImageAnswer, error) {
	p := newProgress(env, what)
	body, write := io.Pipe()
	go func() { _ = write.CloseWithError(archive.Write(io.MultiWriter(write, p))) }() // ends with the request
	var a server.ImageAnswer
	err := send(ctx, h, http.MethodPost, path, body, &a)
	_ = body.CloseWithError(io.ErrClosedPipe) // the server may have answered before the end
	p.done()
	if len(a.Names) == 0 {
		for _, i := range archive.Images {
			a.Names = append(a.Names, i.Names...)
		}
	}
	slices.Sort(a.Names)
	a.Names = slices.Compact(a.Names)
	return a, err
}

// loadInto sends an archive to each cluster.
func loadInto(ctx context.Context, h server.Home, to []server.ClusterState, archive *image.Archive, env Env) error {
	for _, c := range to {
		a, err := upload(ctx, h, "/v1/clusters/"+url.PathEscape(c.UID)+"/images", "Loading into "+c.Name, archive, env)
		if err != nil {
			return fmt.Errorf("cluster %s: %w", c.Name, err)
		}
		for _, n := range a.Names {
			if _, err := fmt.Fprintf(env.Stdout, "Loaded %s into %s.\n", n, c.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// clustersOf finds the clusters with nodes that a person means: one by name or
// resource id, or all that run.
func clustersOf(ctx context.Context, name string, env Env) (server.Home, []server.ClusterState, error) {
	h, err := runningHome(env)
	if err != nil {
		return h, nil, err
	}
	var st server.Status
	if err := ask(ctx, h, "/v1/status", nil, &st); err != nil {
		return h, nil, err
	}
	found, err := pickClusters(st.Clusters, name)
	return h, found, err
}

// runningHome is the state folder, if a server runs in it.
func runningHome(env Env) (server.Home, error) {
	h, err := home(env)
	if err != nil {
		return h, err
	}
	if _, running, err := h.Running(); err != nil || !running {
		return h, firstError(err, errNotRunning(h))
	}
	return h, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func pickClusters(all []server.ClusterState, name string) ([]server.ClusterState, error) {
	var found []server.ClusterState
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
		nodes := c.Server != "" && c.State != "stopped"
		if name == "" && nodes || name != "" && (strings.EqualFold(c.Name, name) || strings.EqualFold(c.ID, name)) {
			found = append(found, c)
		}
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("there is no cluster yet. Make one: laz aks create --name NAME --resource-group GROUP --enable-oidc-issuer --enable-workload-identity --generate-ssh-keys")
	case len(found) == 0 && name == "":
		return nil, fmt.Errorf("no cluster runs that has nodes; there are: %s. See: laz status", strings.Join(names, ", "))
	case len(found) == 0:
		return nil, fmt.Errorf("there is no cluster '%s'; there are: %s", name, strings.Join(names, ", "))
	case name != "" && len(found) > 1:
		return nil, fmt.Errorf("several clusters have the name '%s'; name one with its resource id, such as %s", name, found[0].ID)
	case found[0].Server == "":
		return nil, fmt.Errorf("the nodes of the cluster '%s' take no images from here: its driver is '%s'. See: laz status", found[0].Name, found[0].Driver)
	case found[0].State == "stopped":
		return nil, fmt.Errorf("the cluster '%s' is stopped. Start it: laz aks start --name %s --resource-group %s", found[0].Name, found[0].Name, found[0].Group)
	}
	return found, nil
}

// clusterImages are the images of one cluster.
type clusterImages struct {
	Cluster string              `json:"cluster"`
	Images  []server.ImageState `json:"images"`
}

func imageList(ctx context.Context, args []string, env Env) error {
	fs := flag.NewFlagSet("image list", flag.ContinueOnError)
	only, format := fs.String("cluster", "", ""), fs.String("o", "", "")
	fs.StringVar(only, "c", "", "")
	fs.StringVar(format, "output", "", "")
	rest, err := parse(fs, args, imageListUsage, env)
	if err == nil {
		err = noMore(rest)
	}
	if err != nil {
		return err
	}
	if *format != "" && *format != "json" {
		return usage("-o: %q is not json", *format)
	}
	h, found, err := clustersOf(ctx, *only, env)
	if err != nil {
		return err
	}
	var all []clusterImages
	for _, c := range found {
		one := clusterImages{Cluster: c.Name}
		if err := send(ctx, h, http.MethodGet, "/v1/clusters/"+url.PathEscape(c.UID)+"/images", nil, &one.Images); err != nil {
			return fmt.Errorf("cluster %s: %w", c.Name, err)
		}
		all = append(all, one)
	}
	if *format == "json" {
		enc := json.NewEncoder(env.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	_, err = io.WriteString(env.Stdout, imageTable(styleOf(env), all))
	return err
}

// imageTable shows the images of clusters, a line each.
func imageTable(s style, all []clusterImages) string {
	var b strings.Builder
	for _, c := range all {
		fmt.Fprintf(&b, "%s\n", s.bold(c.Cluster))
		if len(c.Images) == 0 {
			b.WriteString("  no images\n")
		}
		var rows [][2]string
		for _, i := range c.Images {
			names := slices.DeleteFunc(slices.Clone(i.Names), func(n string) bool { return strings.Contains(n, "@sha256:") || strings.HasPrefix(n, "sha256:") })
			if len(names) == 0 {
				names = []string{i.Digest}
			}
			size := bytesText(i.Bytes)
			if len(i.Nodes) > 0 {
				size += fmt.Sprintf(", %d %s", len(i.Nodes), map[bool]string{true: "node", false: "nodes"}[len(i.Nodes) == 1])
			}
			for _, n := range names {
				rows = append(rows, [2]string{n, size})
			}
		}
		slices.SortFunc(rows, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
		width := 0
		for _, r := range rows {
			width = max(width, len(r[0]))
		}
		for _, r := range rows {
			fmt.Fprintf(&b, "  %-*s  %s\n", min(width, 56), r[0], s.dim(r[1]))
		}
	}
	return b.String()
}

// progress shows on a terminal how much has been sent; elsewhere nothing.
type progress struct {
	out   io.Writer // nil: nothing is shown
	what  string
	n     int64
	shown time.Time
}

func newProgress(env Env, what string) *progress {
	p := &progress{what: what}
	if env.IsTerminal(env.Stderr) {
		p.out = env.Stderr
	}
	return p
}

// Write counts.
func (p *progress) Write(b []byte) (int, error) {
	p.n += int64(len(b))
	if p.out != nil && time.Since(p.shown) > 100*time.Millisecond {
		p.shown = time.Now()
		fmt.Fprintf(p.out, "\r\x1b[K%s … %s", p.what, bytesText(p.n))
	}
	return len(b), nil
}

// done takes the line away.
func (p *progress) done() {
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
