package cli

import (
	"context"
	"net/http"
	"sort"
	"strings"
)

func cloudNoun() noun {
	return noun{name: "cloud", short: "Manage the clouds that commands can work with.", commands: func() []*command {
		return []*command{cloudList(), cloudShow(), cloudSet(), cloudListProfiles(),
			cloudRegister("register", "Register a cloud by its endpoints."), cloudRegister("update", "Change a cloud."), cloudUnregister()}
	}}
}

func cloudName() arg { return opt("name", "Name of the cloud.").or("-n") }

func endpointNames() []string { return sortedNames(publicCloud().endpoints) }

func suffixNames() []string { return sortedNames(publicCloud().suffixes) }

func sortedNames(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func (c *call) showCloud(cl *cloud) (any, error) {
	active, err := c.cloud()
	if err != nil {
		return nil, err
	}
	endpoints, suffixes := object{}, object{}
	for _, k := range endpointNames() {
		endpoints[k] = nil
		if v := firstNonEmpty(cl.endpoints[k], defaultEndpoint(cl, k)); v != "" {
			endpoints[k] = v
		}
	}
	for _, k := range suffixNames() {
		suffixes[k] = nil
		if v := cl.suffixes[k]; v != "" {
			suffixes[k] = v
		}
	}
	return object{"endpoints": endpoints, "isActive": cl.name == active.name, "name": cl.name, "profile": cl.profile, "suffixes": suffixes}, nil
}

func cloudList() *command {
	return &command{path: "cloud list", short: "List the registered clouds.", bare: true, example: "cloud list --output table",
		table: "[].{IsActive:isActive, Name:name, Profile:profile}",
		run: func(_ context.Context, c *call) (any, error) {
			all, err := c.clouds()
			if err != nil {
				return nil, err
			}
			out := []any{}
			for _, cl := range all {
				v, err := c.showCloud(cl)
				if err != nil {
					return nil, err
				}
				out = append(out, v)
			}
			return out, nil
		}}
}

func (c *call) namedCloud(name string) (*cloud, error) {
	if name == "" {
		return c.cloud()
	}
	all, err := c.clouds()
	if err != nil {
		return nil, err
	}
	for _, cl := range all {
		if cl.name == name {
			return cl, nil
		}
	}
	return nil, failf("The cloud '%s' is not registered.", name)
}

func cloudShow() *command {
	return &command{path: "cloud show", short: "Show a cloud's endpoints; without a name, the active one's.", bare: true, example: "cloud show",
		args: []arg{cloudName()},
		run: func(_ context.Context, c *call) (any, error) {
			cl, err := c.namedCloud(c.text("name"))
			if err != nil {
				return nil, err
			}
			return c.showCloud(cl)
		}}
}

func cloudSet() *command {
	return &command{path: "cloud set", short: "Choose the cloud that commands work with.", bare: true, example: "cloud set --name MyCloud",
		args: []arg{cloudName().required(), opt("profile", "Profile of api-versions.").oneOf("latest")},
		run: func(_ context.Context, c *call) (any, error) {
			cl, err := c.namedCloud(c.text("name"))
			if err != nil {
				return nil, err
			}
			c.ini.set("cloud", "name", cl.name)
			if err := c.ini.save(); err != nil {
				return nil, err
			}
			c.warn("Switched active cloud to '%s'.", cl.name)
			c.active = cl
			if _, err := c.account(); err != nil {
				c.warn("Use 'az login' to log in to this cloud.")
			}
			return nil, nil
		}}
}

func cloudListProfiles() *command {
	return &command{path: "cloud list-profiles", short: "List the profiles of a cloud.", bare: true, example: "cloud list-profiles",
		args: []arg{cloudName(), flagOpt("show-all", "All profiles.")},
		run: func(_ context.Context, c *call) (any, error) {
			if _, err := c.namedCloud(c.text("name")); err != nil {
				return nil, err
			}
			return []any{"latest"}, nil
		}}
}

func cloudRegister(verb, short string) *command {
	args := []arg{cloudName().required(), opt("profile", "Profile of api-versions.").oneOf("latest"),
		opt("cloud-config", "The cloud as JSON, as `cloud show` prints it. @FILE reads it from a file.")}
	for _, k := range endpointNames() {
		args = append(args, opt("endpoint-"+snake(k, '-'), "The endpoint '"+snake(k, ' ')+"'."))
	}
	for _, k := range suffixNames() {
		args = append(args, opt("suffix-"+snake(k, '-'), "The suffix '"+snake(k, ' ')+"'."))
	}
	return &command{path: "cloud " + verb, short: short, bare: true,
		example: "cloud " + verb + " --name MyCloud --endpoint-resource-manager https://management.example.org",
		args:    args,
		run: func(ctx context.Context, c *call) (any, error) {
			if verb == "update" {
				return nil, c.updateCloud()
			}
			return nil, c.registerCloud(ctx)
		}}
}

func (c *call) registerCloud(ctx context.Context) error {
	name := c.text("name")
	if _, err := c.namedCloud(name); err == nil {
		return failf("The cloud '%s' is already registered.", name)
	}
	cl := &cloud{name: name, profile: "latest", endpoints: map[string]string{}, suffixes: map[string]string{}}
	if err := c.fillCloud(cl); err != nil {
		return err
	}
	if cl.endpoints["resourceManager"] != "" && cl.endpoints["activeDirectory"] == "" {
		if err := c.discoverCloud(ctx, cl); err != nil {
			return err
		}
	}
	var missing []string
	for _, k := range []string{"resourceManager", "activeDirectory", "activeDirectoryResourceId", "activeDirectoryGraphResourceId"} {
		if cl.endpoints[k] == "" {
			missing = append(missing, "--endpoint-"+snake(k, '-'))
		}
	}
	if len(missing) > 0 {
		return failf("The following endpoints are needed: %s", strings.Join(missing, ", "))
	}
	return c.saveCloud(cl)
}

func (c *call) updateCloud() error {
	cl, err := c.namedCloud(c.text("name"))
	if err != nil {
		return err
	}
	if err := c.fillCloud(cl); err != nil {
		return err
	}
	return c.saveCloud(cl)
}

// fillCloud takes over what was typed.
func (c *call) fillCloud(cl *cloud) error {
	if cfg := c.text("cloud-config"); cfg != "" {
		v, err := decode([]byte(cfg))
		if err != nil {
			return usagef("argument --cloud-config: not JSON")
		}
		for _, k := range endpointNames() {
			cl.endpoints[k] = firstNonEmpty(textAt(v, "endpoints", k), cl.endpoints[k])
		}
		for _, k := range suffixNames() {
			cl.suffixes[k] = firstNonEmpty(textAt(v, "suffixes", k), cl.suffixes[k])
		}
	}
	for _, k := range endpointNames() {
		cl.endpoints[k] = firstNonEmpty(c.text("endpoint-"+snake(k, '-')), cl.endpoints[k])
	}
	for _, k := range suffixNames() {
		cl.suffixes[k] = dotted(snake(k, '_'), firstNonEmpty(c.text("suffix-"+snake(k, '-')), cl.suffixes[k]))
	}
	return nil
}

// discoverCloud reads what wasn't typed from the manager's metadata.
func (c *call) discoverCloud(ctx context.Context, cl *cloud) error {
	base := strings.TrimRight(cl.endpoints["resourceManager"], "/")
	a, err := c.send(ctx, request{method: http.MethodGet, url: base + "/metadata/endpoints?api-version=2022-09-01"})
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return readRemote(a, dialectODATA)
	}
	v, err := decode(a.body)
	if err != nil {
		return err
	}
	if l := items(v); len(l) > 0 {
		v = l[0]
	}
	fill := func(m map[string]string, key string, values ...string) {
		m[key] = firstNonEmpty(append([]string{m[key]}, values...)...)
	}
	audience := ""
	for _, x := range items(at(v, "authentication", "audiences")) {
		audience = firstNonEmpty(audience, scalar(x, "", "", ""))
	}
	fill(cl.endpoints, "activeDirectory", textAt(v, "authentication", "loginEndpoint"))
	fill(cl.endpoints, "activeDirectoryResourceId", audience)
	fill(cl.endpoints, "management", audience)
	fill(cl.endpoints, "activeDirectoryGraphResourceId", textAt(v, "graphAudience"), textAt(v, "graph"), textAt(v, "graphEndpoint"), textAt(v, "microsoftGraphResourceId"))
	fill(cl.endpoints, "microsoftGraphResourceId", textAt(v, "microsoftGraphResourceId"))
	fill(cl.endpoints, "appInsightsResourceId", textAt(v, "appInsightsResourceId"))
	fill(cl.endpoints, "portal", textAt(v, "portal"), textAt(v, "portalEndpoint"))
	fill(cl.endpoints, "gallery", textAt(v, "gallery"), textAt(v, "galleryEndpoint"))
	for key, name := range map[string]string{"storageEndpoint": "storage", "keyvaultDns": "keyVaultDns", "acrLoginServerEndpoint": "acrLoginServer",
		"sqlServerHostname": "sqlServerHostname", "mhsmDns": "mhsmDns"} {
		fill(cl.suffixes, key, dotted(snake(key, '_'), textAt(v, "suffixes", name)))
	}
	return nil
}

func (c *call) saveCloud(cl *cloud) error {
	f, err := readINI(c.path("clouds.config"))
	if err != nil {
		return err
	}
	for _, k := range endpointNames() {
		if v := cl.endpoints[k]; v != "" {
			f.set(cl.name, "endpoint_"+snake(k, '_'), v)
		}
	}
	for _, k := range suffixNames() {
		if v := cl.suffixes[k]; v != "" {
			f.set(cl.name, "suffix_"+snake(k, '_'), v)
		}
	}
	f.set(cl.name, "profile", cl.profile)
	return f.save()
}

func cloudUnregister() *command {
	return &command{path: "cloud unregister", short: "Forget a cloud.", bare: true, example: "cloud unregister --name MyCloud",
		args: []arg{cloudName().required()},
		run: func(_ context.Context, c *call) (any, error) {
			f, err := readINI(c.path("clouds.config"))
			if err != nil {
				return nil, err
			}
			if c.config().get("cloud", "name") == c.text("name") {
				return nil, failf("The cloud '%s' is active: choose another one first.", c.text("name"))
			}
			if !f.removeSection(c.text("name")) {
				return nil, failf("The cloud '%s' is not registered.", c.text("name"))
			}
			return nil, f.save()
		}}
}
