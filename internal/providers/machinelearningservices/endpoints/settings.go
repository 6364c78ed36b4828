package endpoints

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
)

// variable is the name of an environment variable (POSIX, and what Kubernetes
// also takes).
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,255}$`)

// ours are variables by which a container reaches its identity and its files.
func ours() []string {
	return []string{"MSI_ENDPOINT", "MSI_SECRET", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "AZUREML_MODEL_DIR", "AML_APP_ROOT", "AZUREML_ENTRY_SCRIPT"}
}

const maxVariables = 128 << 10 // bytes of names and values

// check refuses settings that are none.
func (n *Deployment) check() error {
	if err := n.Request.check(); err != nil {
		return err
	}
	for _, p := range []struct {
		name string
		*Probe
	}{{"livenessProbe", n.Liveness}, {"readinessProbe", n.Readiness}} {
		if err := p.check("properties." + p.name); err != nil {
			return err
		}
	}
	size := 0
	for name, value := range n.Variables {
		at := "properties.environmentVariables"
		size += len(name) + len(value)
		switch {
		case !variable.MatchString(name):
			return bad(at, "The name '%s' of an environment variable is invalid.", name)
		case slices.Contains(ours(), name):
			return bad(at, "The environment variable '%s' is set by the service, and cannot be given.", name)
		case strings.ContainsRune(value, 0):
			return bad(at, "The value of the environment variable '%s' has a null character.", name)
		}
	}
	if size > maxVariables {
		return bad("properties.environmentVariables", "The environment variables have %d bytes; at most %d are taken.", size, maxVariables)
	}
	if c := strings.TrimSpace(string(n.Collector)); c != "" && c != "null" && c != "{}" {
		return bad("properties.dataCollector", "The property 'dataCollector' is not supported: no inference data is collected.")
	}
	if err := n.checkScript(); err != nil {
		return err
	}
	return n.Scale.check()
}

// checkScript refuses a script or a mount path that leads elsewhere.
func (n *Deployment) checkScript() error {
	if c := n.Code; c != nil {
		switch {
		case c.Script == "":
			return bad("properties.codeConfiguration.scoringScript", "The scoringScript is missing.")
		case c.CodeID == "":
			return bad("properties.codeConfiguration.codeId", "The codeId is missing.")
		case path.IsAbs(c.Script) || path.Clean(c.Script) != c.Script || strings.HasPrefix(c.Script, "..") || strings.ContainsAny(c.Script, "\x00\r\n\\"):
			return bad("properties.codeConfiguration.scoringScript", "The scoringScript '%s' is not the path of a file in the code.", c.Script)
		}
	}
	if m := n.MountPath; m != "" {
		top := strings.SplitN(strings.TrimPrefix(m, "/"), "/", 2)[0]
		if !path.IsAbs(m) || path.Clean(m) != m || m == "/" || strings.ContainsAny(m, "\x00\r\n:\\") ||
			slices.Contains([]string{"proc", "sys", "dev", "etc", "bin", "sbin", "lib", "lib64", "usr", "boot"}, top) {
			return bad("properties.modelMountPath", "The modelMountPath '%s' is not an absolute path at which files can be mounted.", m)
		}
	}
	return nil
}

// within parses a duration and holds it against bounds.
func within(at, text string, least, most time.Duration) error {
	d, err := ParseDuration(text)
	if err != nil {
		return bad(at, "The duration '%s' is invalid: %v.", text, err)
	}
	if d < least || d > most {
		return bad(at, "The duration '%s' is not from %s to %s.", text, FormatDuration(least), FormatDuration(most))
	}
	return nil
}

func (r *RequestSettings) check() error {
	const at = "properties.requestSettings."
	if r.Concurrent < 1 || r.Concurrent > maxConcurrent {
		return bad(at+"maxConcurrentRequestsPerInstance", "The number of requests at once %d is not from 1 to %d.", r.Concurrent, maxConcurrent)
	}
	if err := within(at+"requestTimeout", r.Timeout, time.Millisecond, maxTimeout); err != nil {
		return err
	}
	return within(at+"maxQueueWait", r.QueueWait, 0, maxQueueWait)
}

func (p *Probe) check(at string) error {
	for _, n := range []struct {
		name  string
		value int
	}{{".failureThreshold", p.Failure}, {".successThreshold", p.Success}} {
		if n.value < 1 || n.value > 1000 {
			return bad(at+n.name, "The threshold %d is not from 1 to 1000.", n.value)
		}
	}
	for _, d := range []struct {
		name, value string
		least       time.Duration
	}{{".initialDelay", p.Initial, 0}, {".period", p.Period, time.Second}, {".timeout", p.Timeout, time.Second}} {
		if err := within(at+d.name, d.value, d.least, time.Hour); err != nil {
			return err
		}
	}
	return nil
}

// probe is p as compute has it; the durations were checked.
func (p *Probe) probe() compute.Probe {
	if p == nil {
		return compute.Probe{}
	}
	initial, _ := ParseDuration(p.Initial)
	period, _ := ParseDuration(p.Period)
	timeout, _ := ParseDuration(p.Timeout)
	return compute.Probe{InitialDelay: initial, Period: period, Timeout: timeout, Success: p.Success, Failure: p.Failure}
}

// The values of scaleType.
const (
	scaleDefault = "Default"
	scaleTarget  = "TargetUtilization"
)

func (c *ScaleSettings) check() error {
	const at = "properties.scaleSettings"
	switch {
	case strings.EqualFold(c.Type, scaleDefault):
		if c.Min != nil || c.Max != nil || c.Target != nil || c.Polling != "" {
			return bad(at, "The scaleType Default has no settings: the number of instances is the sku's capacity.")
		}
		c.Type = scaleDefault
		return nil
	case strings.EqualFold(c.Type, scaleTarget):
		c.Type = scaleTarget
		return c.checkTarget()
	}
	return bad(at+".scaleType", "The scaleType '%s' is neither Default nor TargetUtilization.", c.Type)
}

// checkEgress refuses a promise that the workspace's network keeps, or nobody.
func (n *Deployment) checkEgress(_ *arm.Resource[Deployment], w *assets.Workspace) error {
	const at = "properties.egressPublicNetworkAccess"
	switch {
	case strings.EqualFold(n.Egress, "Enabled"):
		n.Egress = "Enabled"
		return nil
	case !strings.EqualFold(n.Egress, "Disabled"):
		return bad(at, "The value '%s' of egressPublicNetworkAccess is neither 'Enabled' nor 'Disabled'.", n.Egress)
	case w.Mode != "Disabled":
		return bad(at, "egressPublicNetworkAccess does not apply in the workspace '%s', whose managed network (%s) decides what deployments reach: leave it out.", w.ID.Name(), w.Mode)
	}
	return bad(at, "egressPublicNetworkAccess 'Disabled', the older isolation of single deployments, is not supported: give the workspace a managed network: az ml workspace update -n %s -m allow_only_approved_outbound", w.ID.Name())
}
