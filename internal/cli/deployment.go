package cli

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

func deploymentNoun() noun {
	return noun{name: "deployment", short: "Deploy templates.", groups: map[string]string{
		"group": "Deploy templates to a resource group.", "sub": "Deploy templates to the subscription.",
		"operation": "Look at what deployments did.", "operation group": "What deployments to a resource group did.", "operation sub": "What deployments to the subscription did.",
	}, commands: func() []*command {
		var all []*command
		for _, s := range []deploymentScope{{"group", "a resource group", "-g myGroup"}, {"sub", "the subscription", ""}} {
			all = append(all, s.create(), s.validate(), s.whatIf(), s.show(), s.list(), s.delete(), s.cancel(), s.export(), s.wait(), s.operationList(), s.operationShow())
		}
		return all
	}}
}

// deploymentScope is one of the places that templates are deployed to.
type deploymentScope struct{ word, phrase, example string }

const deploymentType = "/providers/Microsoft.Resources/deployments"

// deploymentsVersion is the api-version of deployments.
const deploymentsVersion = "2022-09-01"

func (s deploymentScope) isGroup() bool { return s.word == "group" }

func (s deploymentScope) args(more ...arg) []arg {
	if !s.isGroup() {
		return more
	}
	return append([]arg{groupOpt()}, more...)
}

// line is an example of the verb.
func (s deploymentScope) line(verb, more string) string {
	return strings.Join(strings.Fields("deployment "+s.word+" "+verb+" "+s.example+" "+more), " ")
}

func (s deploymentScope) path(c *call, m *management, name string) string {
	base := m.subPath
	if s.isGroup() {
		base = m.groupPath(c.text("resource-group"))
	}
	if base += deploymentType; name != "" {
		base += "/" + url.PathEscape(name)
	}
	return base
}

func deploymentName() arg {
	return opt("name", "Name of the deployment.").or("-n").required()
}

func showTemplateDeployment(v any) any { return withNulls(v, "location", "tags") }

// fields are the options that say what is deployed.
func (s deploymentScope) fields() []arg {
	a := s.args(
		opt("name", "Name of the deployment; without it, the template file's.").or("-n"),
		opt("template-file", "File with the template, in JSON.").or("-f"),
		opt("template-uri", "Not supported: nothing is fetched.").or("-u"),
		opt("template-spec", "Not supported: nothing is fetched.").or("-s"),
		repeatOpt("parameters", "Parameters: KEY=VALUE, KEY=@FILE, a JSON object, @FILE or FILE. May be given several times; the last one counts.").or("-p"),
		flagOpt("no-prompt", "Kept for scripts: nothing is asked for.").or(),
		flagOpt("handle-extended-json-format", "Kept for scripts: comments in templates are always taken.").or("-j"),
	)
	if s.isGroup() {
		return append(a, opt("mode", "Complete deletes what the template does not have.").oneOf("Incremental", "Complete").byDefault("Incremental"))
	}
	return append(a, locationOpt().required())
}

func whatIfArgs() []arg {
	return []arg{
		opt("result-format", "What is compared.").or("-r", "--what-if-result-format").oneOf("FullResourcePayloads", "ResourceIdOnly").byDefault("FullResourcePayloads"),
		listOpt("exclude-change-types", "Changes not to show: Create, Delete, Deploy, Ignore, Modify, NoChange, Unsupported.").or("-x", "--what-if-exclude-change-types"),
	}
}

// request is path and body of what the options say.
func (s deploymentScope) request(c *call, m *management) (path string, body object, err error) {
	template, name, err := c.templateFile()
	if err != nil {
		return "", nil, err
	}
	params, err := c.templateParameters(template)
	if err != nil {
		return "", nil, err
	}
	props := object{"template": template, "parameters": params, "mode": firstNonEmpty(capital(strings.ToLower(c.text("mode"))), "Incremental")}
	body = object{"properties": props}
	if !s.isGroup() {
		body["location"] = plainLocation(c.text("location"))
	}
	return s.path(c, m, firstNonEmpty(c.text("name"), name)), body, nil
}

func (s deploymentScope) create() *command {
	return &command{path: "deployment " + s.word + " create", short: "Deploy a template to " + s.phrase + ".",
		example: s.line("create", s.place()+"-f main.json -p name=demo -p @more.json"),
		args: append(append(s.fields(), whatIfArgs()...), noWaitOpt(),
			flagOpt("what-if", "Only show what would change.").or("-w"),
			flagOpt("confirm-with-what-if", "Show what would change, and ask.").or("-c"),
			flagOpt("proceed-if-no-change", "With --confirm-with-what-if, ask nothing where nothing changes.")),
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			path, body, err := s.request(c, m)
			if err != nil {
				return nil, err
			}
			if c.flag("what-if") || c.flag("confirm-with-what-if") {
				v, err := s.compare(ctx, c, m, path, body)
				if err != nil || c.flag("what-if") {
					c.cmd.text = whatIfAnswer
					return v, err
				}
				if err := c.confirmChanges(v); err != nil {
					return nil, err
				}
			}
			v, err := m.put(ctx, path, deploymentsVersion, body, c.flag("no-wait"))
			if v == nil || err != nil {
				return nil, err
			}
			return showTemplateDeployment(v), nil
		}}
}

// place is the location of an example.
func (s deploymentScope) place() string {
	if s.isGroup() {
		return ""
	}
	return "-l eastus "
}

func (s deploymentScope) compare(ctx context.Context, c *call, m *management, path string, body object) (any, error) {
	props := body["properties"].(object)
	props["whatIfSettings"] = object{"resultFormat": c.text("result-format")}
	v, err := m.post(ctx, path+"/whatIf", deploymentsVersion, body)
	delete(props, "whatIfSettings")
	if err != nil {
		return nil, err
	}
	return withoutChanges(v, c.many("exclude-change-types")), nil
}

func (s deploymentScope) validate() *command {
	return &command{path: "deployment " + s.word + " validate", short: "Tell whether a template can be deployed to " + s.phrase + ".",
		example: s.line("validate", s.place()+"-f main.json -p name=demo"),
		args:    s.fields(),
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			path, body, err := s.request(c, m)
			if err != nil {
				return nil, err
			}
			v, err := m.post(ctx, path+"/validate", deploymentsVersion, body)
			return showTemplateDeployment(v), err
		}}
}

func (s deploymentScope) whatIf() *command {
	return &command{path: "deployment " + s.word + " what-if", short: "Show what a template would change in " + s.phrase + ".",
		example: s.line("what-if", s.place()+"-f main.json -p name=demo"),
		args:    append(append(s.fields(), whatIfArgs()...), flagOpt("no-pretty-print", "The answer as JSON.")),
		run: func(ctx context.Context, c *call) (any, error) {
			if !c.flag("no-pretty-print") {
				c.cmd.text = whatIfAnswer
			}
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			path, body, err := s.request(c, m)
			if err != nil {
				return nil, err
			}
			return s.compare(ctx, c, m, path, body)
		}}
}

func (s deploymentScope) show() *command {
	return &command{path: "deployment " + s.word + " show", short: "Show a deployment.", example: s.line("show", "-n main"),
		args:  s.args(deploymentName()),
		table: deploymentTable(""),
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			v, err := m.get(ctx, s.path(c, m, c.text("name")), deploymentsVersion)
			return showTemplateDeployment(v), err
		}}
}

func deploymentTable(of string) string {
	return of + "{Name:name, State:properties.provisioningState, Timestamp:properties.timestamp, Mode:properties.mode, ResourceGroup:resourceGroup}"
}

func (s deploymentScope) list() *command {
	return &command{path: "deployment " + s.word + " list", short: "List the deployments.", example: s.line("list", ""),
		args:  s.args(opt("filter", "OData filter, such as \"provisioningState eq 'Failed'\".")),
		table: deploymentTable("[]."),
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			var query []string
			if f := c.text("filter"); f != "" {
				query = []string{"$filter", f}
			}
			l, err := m.list(ctx, s.path(c, m, ""), deploymentsVersion, query...)
			if err != nil {
				return nil, err
			}
			return each(l, showTemplateDeployment), nil
		}}
}

func (s deploymentScope) delete() *command {
	return &command{path: "deployment " + s.word + " delete", short: "Delete a deployment; what it made stays.", example: s.line("delete", "-n main"),
		args: s.args(deploymentName(), noWaitOpt()),
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			return nil, m.delete(ctx, s.path(c, m, c.text("name")), deploymentsVersion, c.flag("no-wait"))
		}}
}

func (s deploymentScope) cancel() *command {
	return &command{path: "deployment " + s.word + " cancel", short: "Cancel a deployment that is going on.", example: s.line("cancel", "-n main"),
		args: s.args(deploymentName()),
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			_, err = m.do(ctx, http.MethodPost, s.path(c, m, c.text("name"))+"/cancel", deploymentsVersion, []byte{})
			return nil, err
		}}
}

func (s deploymentScope) export() *command {
	return &command{path: "deployment " + s.word + " export", short: "Show the template that was deployed.", example: s.line("export", "-n main"),
		args: s.args(deploymentName()),
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			v, err := m.post(ctx, s.path(c, m, c.text("name"))+"/exportTemplate", deploymentsVersion, nil)
			return at(v, "template"), err
		}}
}

func (s deploymentScope) wait() *command {
	return waitCommand("deployment "+s.word+" wait", "Wait until a deployment is there, gone or in a state.", s.line("wait", "-n main --created"),
		s.args(deploymentName()), func(c *call, m *management) (string, string) {
			return s.path(c, m, c.text("name")), deploymentsVersion
		})
}

func (s deploymentScope) operationList() *command {
	return &command{path: "deployment operation " + s.word + " list", short: "List what a deployment did.",
		example: strings.Join(strings.Fields("deployment operation "+s.word+" list "+s.example+" -n main"), " "),
		args:    s.args(deploymentName()),
		table:   "[].{OperationId:operationId, State:properties.provisioningState, StatusCode:properties.statusCode, Resource:properties.targetResource.resourceName}",
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			return m.list(ctx, s.path(c, m, c.text("name"))+"/operations", deploymentsVersion)
		}}
}

func (s deploymentScope) operationShow() *command {
	return &command{path: "deployment operation " + s.word + " show", short: "Show what a deployment did for a resource.",
		example: strings.Join(strings.Fields("deployment operation "+s.word+" show "+s.example+" -n main --operation-ids 0123456789ABCDEF"), " "),
		args:    s.args(deploymentName(), listOpt("operation-ids", "Ids of the operations.").required()),
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			out := []any{}
			for _, id := range c.many("operation-ids") {
				v, err := m.get(ctx, s.path(c, m, c.text("name"))+"/operations/"+url.PathEscape(id), deploymentsVersion)
				if err != nil {
					return nil, err
				}
				out = append(out, v)
			}
			return out, nil
		}}
}
