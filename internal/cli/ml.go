package cli

import (
	"context"
	"net/url"
	"strings"
)

// The commands of az's ml extension. Its source is not public: what is asked
// and shown follows Microsoft's azure-ai-ml, whose commands they are.

const (
	mlType    = "Microsoft.MachineLearningServices/workspaces"
	mlVersion = "2024-04-01"
)

func mlNoun() noun {
	return noun{name: "ml", short: "Manage Azure Machine Learning: workspaces, models, endpoints.",
		groups: map[string]string{
			"workspace": "Manage workspaces.", "workspace outbound-rule": "Manage what the managed network of a workspace lets out.",
			"online-endpoint": "Manage online endpoints.", "online-deployment": "Manage online deployments.",
			"model": "Manage models.", "environment": "Manage environments.", "data": "Manage data assets.", "code": "Look at code assets.",
		},
		commands: func() []*command {
			var all []*command
			for _, list := range [][]*command{mlWorkspaceCommands(), outboundRuleCommands(), onlineEndpointCommands(), onlineDeploymentCommands(), mlAssetCommands()} {
				all = append(all, list...)
			}
			return all
		}}
}

func workspaceOpt() arg {
	return opt("workspace-name", "Name of the workspace. Can be set once with `az configure --defaults workspace=NAME`.").or("-w").required().configured("workspace")
}

func fileOpt(what string) arg {
	return opt("file", "YAML file that describes the "+what+".").or("-f")
}

func setOpt() arg {
	return repeatOpt("set", "Set a property of the description by its path, over the file: --set a.b=VALUE.")
}

// inWorkspace are the arguments of what lies in a workspace.
func inWorkspace(more ...arg) []arg {
	return append([]arg{groupOpt(), workspaceOpt()}, more...)
}

// workspace is one workspace, seen by a command.
type workspace struct {
	c    *call
	m    *management
	path string // resource id
	loc  string // region, once read
}

// workspaced makes a run function of one that needs the workspace.
func workspaced(f func(ctx context.Context, c *call, w *workspace) (any, error)) func(context.Context, *call) (any, error) {
	return manage(func(ctx context.Context, c *call, m *management) (any, error) {
		return f(ctx, c, &workspace{c: c, m: m, path: m.resource(c.text("resource-group"), mlType, c.text("workspace-name"))})
	})
}

// under is the path of what lies in the workspace: under("onlineEndpoints", "e").
func (w *workspace) under(parts ...string) string {
	p := w.path
	for _, s := range parts {
		p += "/" + url.PathEscape(s)
	}
	return p
}

func (w *workspace) get(ctx context.Context, parts ...string) (any, error) {
	return w.m.get(ctx, w.under(parts...), mlVersion)
}

func (w *workspace) list(ctx context.Context, parts ...string) ([]any, error) {
	return w.m.list(ctx, w.under(parts...), mlVersion)
}

// location is the workspace's region.
func (w *workspace) location(ctx context.Context) (string, error) {
	if w.loc == "" {
		v, err := w.m.get(ctx, w.path, mlVersion)
		if err != nil {
			return "", err
		}
		w.loc = textAt(v, "location")
	}
	return w.loc, nil
}

// notLocal refuses --local: endpoints run on this machine anyway.
func (c *call) notLocal() error {
	if !c.flag("local") {
		return nil
	}
	return withHint(usagef("--local is not supported: it asks for a container in Docker, and there is none in between here."),
		"Leave --local out: the deployment runs on this machine all the same, under its endpoint.")
}

func localEndpointOpt() arg {
	return flagOpt("local", "Not supported: deployments run on this machine anyway.")
}

// lastOf is the last part of a resource id, and text that is no id as it is.
func lastOf(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }
