package deployments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/template"
	"lazurite.dev/internal/token"
)

// parallel is how many resources of one deployment are made at a time.
const parallel = 8

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// execution is one run of a deployment.
type execution struct {
	*Service
	*order
	caller      *token.Claims
	correlation string
	ref         string // of the run
	resumed     bool

	mu     sync.Mutex // guards what follows, and the order's evaluation
	done   map[int]bool
	faults []apierr.Error
	also   []string // resources that nested deployments made
}

// deploy makes what the template says. After a crash it is called again, and
// goes on with what is not done.
func (s *Service) deploy(ctx context.Context, old, next *arm.Resource[properties]) error {
	ref := next.Private["run"]
	if old != nil && old.Private["run"] != "" && old.Private["run"] != ref {
		if err := s.drop(ctx, runKey(old.Private["run"])); err != nil {
			return err
		}
	}
	o, err := s.reopen(ctx, next.ID, ref)
	if err != nil {
		return err
	}
	x := &execution{Service: s, order: o, caller: arm.Caller(ctx), correlation: next.Properties.Correlation, ref: ref, done: map[int]bool{}}
	if err := x.recover(ctx); err != nil {
		return err
	}
	if err := x.resources(ctx); err != nil {
		return err
	}
	if o.mode == "Complete" {
		if err := x.complete(ctx); err != nil {
			return err
		}
	}
	outputs, err := x.outputs(ctx)
	if err != nil {
		return err
	}
	p := &next.Properties
	p.Outputs, p.OutputResources = outputs, x.outputResources()
	p.Duration = duration(p.Timestamp)
	now := time.Now().UTC()
	p.Timestamp = &now
	return nil
}

// duration is how long ago t was, in ISO 8601.
func duration(t *time.Time) string {
	if t == nil {
		return "PT0S"
	}
	d := time.Since(*t)
	text := "PT"
	if h := int(d.Hours()); h > 0 {
		text += fmt.Sprintf("%dH", h)
	}
	if m := int(d.Minutes()) % 60; m > 0 {
		text += fmt.Sprintf("%dM", m)
	}
	return text + fmt.Sprintf("%.7fS", (d%time.Minute).Seconds())
}

// failed shows why a deployment came to nothing.
func (s *Service) failed(_ context.Context, r *arm.Resource[properties], why error) error {
	r.Properties.Error = fault(apierr.From(why))
	r.Properties.Duration = duration(r.Properties.Timestamp)
	return nil
}

// fault is an error as it is shown in a deployment.
func fault(e *apierr.Error) map[string]any {
	m := map[string]any{"code": e.Code, "message": e.Message}
	if e.Target != "" {
		m["target"] = e.Target
	}
	if len(e.Details) > 0 {
		var list []any
		for i := range e.Details {
			list = append(list, fault(&e.Details[i]))
		}
		m["details"] = list
	}
	return m
}

// recover finds what an earlier life of this run has done.
func (x *execution) recover(ctx context.Context) error {
	docs, err := x.operations(ctx, x.id)
	if err != nil {
		return err
	}
	for key, op := range docs {
		if op.Run != x.ref {
			if err := x.drop(ctx, key); err != nil {
				return err
			}
			continue
		}
		x.resumed = true
		for i, r := range x.plan.Resources {
			if op.State == ops.Succeeded && op.Target != nil && strings.EqualFold(op.Target.ID, r.ID) {
				x.done[i] = true
				x.also = append(x.also, op.Made...)
			}
		}
	}
	return nil
}

// resources makes all, each after those that it depends on.
func (x *execution) resources(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	type ended struct {
		i   int
		err error
	}
	results := make(chan ended)
	state := make([]int, len(x.plan.Resources)) // 1 under way, 2 done, 3 not to be done
	for i, r := range x.plan.Resources {
		if x.done[i] || r.Skipped || r.Existing {
			state[i] = 2
		}
	}
	running, left := 0, true
	for left || running > 0 {
		left = false
		for i := range x.plan.Resources {
			if running == parallel {
				break
			}
			if state[i] != 0 || ctx.Err() != nil {
				continue
			}
			switch x.ready(i, state) {
			case 2:
				state[i] = 1
				running++
				left = true
				ops.Report(ctx, ops.Phase{Name: x.plan.Resources[i].ID}, len(state))
				go func() { results <- ended{i, x.make(ctx, x.plan.Resources[i])} }()
			case 3:
				state[i], left = 3, true
			}
		}
		if running == 0 {
			continue
		}
		r := <-results
		running--
		left = true
		state[r.i] = 2
		phase := ops.Phase{Name: x.plan.Resources[r.i].ID, Done: true}
		if r.err != nil {
			state[r.i] = 3
			phase.Err = apierr.From(r.err).Code
			x.blame(x.plan.Resources[r.i], r.err)
		}
		ops.Report(ctx, phase, len(state))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return x.verdict()
}

// ready is 2 when all that resource i depends on is done, 3 when that will
// never be.
func (x *execution) ready(i int, state []int) int {
	all := 2
	for _, j := range x.plan.Resources[i].DependsOn {
		switch state[j] {
		case 3:
			return 3
		case 0, 1:
			all = 0
		}
	}
	return all
}

func (x *execution) blame(r *template.Resource, err error) {
	e := *apierr.From(err)
	e.Cause = nil
	e.Target = r.ID
	x.faults = append(x.faults, *x.masked(&e))
}

// verdict is Azure's sum of what failed.
func (x *execution) verdict() error {
	if len(x.faults) == 0 {
		return nil
	}
	e := apierr.New(apierr.Conflict, "DeploymentFailed",
		"At least one resource deployment operation failed. Please list deployment operations for details. Please see https://aka.ms/arm-deployment-operations for usage details.").WithTarget(x.id.String())
	e.Details = x.faults
	return e
}

// masked hides the values of secure parameters.
func (o *order) masked(e *apierr.Error) *apierr.Error {
	out := *e
	for _, s := range o.secrets {
		out.Message = strings.ReplaceAll(out.Message, s, "********")
	}
	out.Details = nil
	for i := range e.Details {
		out.Details = append(out.Details, *o.masked(&e.Details[i]))
	}
	return &out
}

// make makes one resource and records how that went.
func (x *execution) make(ctx context.Context, r *template.Resource) (err error) {
	defer func() { // it runs on a goroutine of its own, beside those that others wait for
		if v := recover(); v != nil {
			err = fmt.Errorf("making %s: panic: %v\n%s", r.ID, v, debug.Stack())
		}
	}()
	op := x.begin(r)
	if err := x.record(ctx, op); err != nil {
		return err
	}
	told, err := x.put(ctx, r)
	if ctx.Err() != nil {
		return ctx.Err() // shut down or canceled: it is looked at again, or not
	}
	op.end(told, err, x.order)
	if err == nil && r.Nested != nil {
		op.Made = made(told.Body)
		x.mu.Lock()
		x.also = append(x.also, op.Made...)
		x.mu.Unlock()
	}
	return errors.Join(err, x.record(ctx, op))
}

// made are the resources that a nested deployment says it made.
func made(body map[string]any) []string {
	p, _ := body["properties"].(map[string]any)
	list, _ := p["outputResources"].([]any)
	var out []string
	for _, v := range list {
		m, _ := v.(map[string]any)
		if id, ok := m["id"].(string); ok {
			out = append(out, id)
		}
	}
	return out
}

func (x *execution) put(ctx context.Context, r *template.Resource) (*arm.Told, error) {
	body, err := x.body(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.Nested != nil && !r.Nested.Inner {
		ctx = withOuter(ctx, x.d)
	} else {
		ctx = withOuter(ctx, nil)
	}
	if x.resumed { // what the earlier life began may still go on
		if err := x.plane.Load().Settle(ctx, rid.MustParse(r.ID)); err != nil {
			return nil, err
		}
	}
	return x.do(ctx, http.MethodPut, r.ID, r.APIVersion, body)
}

// body evaluates a resource: one at a time, as an evaluation isn't for several.
func (x *execution) body(ctx context.Context, r *template.Resource) (map[string]any, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.d.Body(r, &live{x: x, ctx: ctx}, false)
}

func (x *execution) do(ctx context.Context, method, path, version string, body any) (*arm.Told, error) {
	return x.plane.Load().Do(ctx, arm.Ask{Caller: x.caller, Correlation: x.correlation, Method: method, Path: path, Version: version, Body: body})
}

// live answers reference() and list…() from the management plane, as the caller.
type live struct {
	x   *execution
	ctx context.Context
}

func (l *live) Reference(id, version string, full bool) (any, error) {
	told, err := l.x.do(l.ctx, http.MethodGet, id, version, nil)
	if err != nil {
		return nil, err
	}
	if !full {
		p, ok := told.Body["properties"]
		if !ok {
			p = map[string]any{}
		}
		return p, nil
	}
	at, err := rid.Parse(id)
	if err != nil || told.Body == nil {
		return nil, bad("InvalidTemplate", "reference('%s') is not valid with 'Full': it names no resource.", id)
	}
	told.Body["apiVersion"] = version
	told.Body["resourceId"], told.Body["subscriptionId"], told.Body["resourceGroupName"] = id, at.Subscription(), at.ResourceGroup()
	return told.Body, nil
}

func (l *live) List(function, id, version string, body any) (any, error) {
	told, err := l.x.do(l.ctx, http.MethodPost, id+"/"+function, version, body)
	if err != nil {
		return nil, err
	}
	return told.Body, nil
}

// outputs evaluates the outputs as a deployment shows them.
func (x *execution) outputs(ctx context.Context) (map[string]any, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	list, err := x.d.Outputs(&live{x: x, ctx: ctx})
	if err != nil {
		e := apierr.New(apierr.BadRequest, "DeploymentOutputEvaluationFailed", "Unable to evaluate template outputs: '%s'. Please see error details and deployment operations. Please see https://aka.ms/arm-common-errors for usage details.", strings.Join(sorted(list), ","))
		e.Details = []apierr.Error{*x.masked(apierr.From(err))}
		return nil, e
	}
	out := map[string]any{}
	for name, o := range list {
		m := map[string]any{"type": o.Type}
		if !o.Secure {
			m["value"] = o.Value
		}
		out[name] = m
	}
	return out, nil
}

func (x *execution) outputResources() []idOf {
	out := []idOf{}
	seen := map[string]bool{}
	add := func(id string) {
		if !seen[strings.ToLower(id)] {
			seen[strings.ToLower(id)] = true
			out = append(out, idOf{id})
		}
	}
	for _, r := range x.plan.Resources {
		if !r.Skipped && !r.Existing && r.Nested == nil {
			add(r.ID)
		}
	}
	for _, id := range x.also {
		add(id)
	}
	return out
}

// drop deletes a document that may be gone.
func (s *Service) drop(ctx context.Context, key string) error {
	err := s.cfg.Store.Delete(ctx, key, 0)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// forget removes what is kept of a deployment that is deleted.
func (s *Service) forget(ctx context.Context, r *arm.Resource[properties]) error {
	docs, err := s.operations(ctx, r.ID)
	if err != nil {
		return err
	}
	for key := range docs {
		if err := s.drop(ctx, key); err != nil {
			return err
		}
	}
	if ref := r.Private["run"]; ref != "" {
		return s.drop(ctx, runKey(ref))
	}
	return nil
}

// complete deletes what is in the group and not in the template.
func (x *execution) complete(ctx context.Context) error {
	keep := map[string]bool{}
	for _, r := range x.plan.Resources {
		if !r.Skipped {
			keep[strings.ToLower(r.ID)] = true
		}
	}
	for _, id := range x.also {
		keep[strings.ToLower(id)] = true
	}
	spare, err := x.spare(ctx, x.id, keep)
	if err != nil {
		return err
	}
	for _, e := range spare {
		if _, err := x.do(ctx, http.MethodDelete, e.ID, x.versionOf(e.Type), nil); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			x.faults = append(x.faults, *apierr.From(err))
		}
	}
	return x.verdict()
}

func (x *execution) versionOf(typ string) string {
	if rt := x.plane.Load().Routes()[strings.ToLower(typ)]; rt != nil {
		return rt.APIVersions[0]
	}
	return x.cfg.Versions[0]
}

func compact(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}
