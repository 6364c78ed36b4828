package arm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
)

// The names of the long operations that the pipeline runs.
const (
	runPut    = "arm-put"
	runDelete = "arm-delete"
	runAction = "arm-action"

	privateOp = "arm.operation" // in Envelope.Private: the operation under way

	// usualGrace is Config.Grace where it is not said.
	usualGrace = 250 * time.Millisecond
)

type putInput struct {
	Old    *Envelope     `json:"old,omitempty"`
	Caller *token.Claims `json:"caller"`
	Query  string        `json:"query,omitempty"` // of a DELETE's URL
}

// startPut records intent and operation and answers 201 or 200 with the
// headers of a long operation. Source: ARM RPC, "Asynchronous operations".
func (h *Handler) startPut(c *call, next *Envelope, status int) error {
	next.setState(c.route.busyState(c.old, next))
	op := ops.Op{ID: ops.NewID(), Runner: runPut, Target: next.ID, Principal: c.caller.ObjectID}
	next.Private = setPrivate(next.Private, privateOp, op.ID)
	var err error
	if op.Input, err = json.Marshal(putInput{Old: c.old, Caller: c.caller}); err != nil {
		return fmt.Errorf("encode operation: %w", err)
	}
	if err := h.res.Put(c.ctx, next); err != nil {
		return conflict(err)
	}
	if err := h.orphaned(c, next); err != nil {
		return err
	}
	started, err := h.cfg.Ops.Start(context.WithoutCancel(c.ctx), op)
	if err != nil {
		return errors.Join(err, h.undo(context.WithoutCancel(c.ctx), c.route, c.old, next))
	}
	op, err = h.wait(c.ctx, started)
	if err != nil {
		return err
	}
	told := c.route.failed != nil // of a failure, by the operation's status
	if failed(op) && !told {
		return failure(op)
	}
	now, err := h.res.Get(c.ctx, next.RID())
	if err != nil {
		return err
	}
	if op.Status == ops.InProgress || failed(op) {
		h.asyncHeaders(c, op, false)
	}
	return h.render(c, status, now)
}

// wait gives the operation a moment to end.
func (h *Handler) wait(ctx context.Context, op ops.Op) (ops.Op, error) {
	short, cancel := context.WithTimeout(ctx, h.cfg.Grace)
	defer cancel()
	now, err := h.cfg.Ops.Wait(short, op.ID)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return op, nil
	}
	return now, err
}

func failed(op ops.Op) bool { return op.Status == ops.Failed || op.Status == ops.Canceled }

// failure is the refusal of an operation that failed at once.
func failure(op ops.Op) error {
	kind := apierr.Conflict
	if op.Code == apierr.From(errors.New("")).Code {
		kind = apierr.Internal
	}
	e := apierr.New(kind, op.Code, "%s", op.Message)
	e.Details = details(op.Details)
	return e
}

func details(faults []ops.Fault) []apierr.Error {
	var out []apierr.Error
	for _, f := range faults {
		out = append(out, apierr.Error{Kind: apierr.Conflict, Code: f.Code, Message: f.Message, Target: f.Target, Details: details(f.Details)})
	}
	return out
}

// busyState is the state while a PUT is under way.
func (r *Route) busyState(old, next *Envelope) string {
	switch own := r.state(old, next); {
	case own != "":
		return own
	case r.busy != "":
		return r.busy
	case old == nil:
		return "Creating"
	default:
		return "Updating"
	}
}

// resumePut is the work of a PUT's operation; idempotent.
func (h *Handler) resumePut(ctx context.Context, op ops.Op) error {
	var in putInput
	if err := decodeNumber(op.Input, &in); err != nil {
		return fmt.Errorf("decode operation: %w", err)
	}
	id := rid.MustParse(op.Target)
	rt := h.routes[strings.ToLower(id.Type())]
	if rt == nil {
		return fmt.Errorf("no type %s in this version", id.Type())
	}
	e, err := h.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.Private[privateOp] != op.ID {
		return nil // finished before a crash, or overtaken
	} else if err != nil {
		return err
	}
	ctx = WithCaller(ctx, in.Caller)
	acted := h.act(ctx, rt, in.Old, e)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	dropPaths(e.Properties, rt.writeOnly)
	delete(e.Private, privateOp)
	setDone(rt, e)
	if acted != nil {
		if rt.failed != nil {
			if err := rt.failed(ctx, e, acted); err != nil {
				return errors.Join(acted, err)
			}
		}
		e.setState("Failed")
	}
	err = h.res.Put(ctx, e)
	if errors.Is(err, store.ErrConflict) {
		if _, gone := h.res.Get(ctx, id); errors.Is(gone, store.ErrNotFound) { // its group was deleted meanwhile
			err = errors.Join(apierr.New(apierr.Conflict, "ResourceDeleted", "'%s' was deleted while it was being made.", id).WithCause(err), rt.del(ctx, e), h.forgetIdentity(ctx, rt, e))
		}
	}
	return errors.Join(acted, err)
}

func setPrivate(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

func (h *Handler) delete(c *call) error {
	if c.old == nil {
		if c.route.Type == rid.TypeResourceGroup {
			return NotFound(c.id)
		}
		if c.route.get != nil { // one that is there without being stored
			if e, err := c.route.get(c.ctx, c.id); err != nil && !apierr.Is(err, apierr.NotFound) {
				return err
			} else if err == nil && e != nil {
				if err := c.route.deletable(c.ctx, e); err != nil {
					return err
				}
			}
		}
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	op, err := h.under(c.ctx, c.old)
	if err != nil {
		return err
	}
	switch {
	case op == nil:
	case op.Runner == runDelete:
		return h.accepted(c, *op)
	case !c.route.cancels:
		return errBusy(c.id)
	default:
		if err := h.preempt(c.ctx, *op); err != nil {
			return err
		}
		if c.old, err = h.res.Get(c.ctx, c.id); err != nil {
			return err
		}
	}
	release, err := h.exclusive(c)
	if err != nil {
		return err
	}
	defer release()
	if c.route.withParent {
		done, err := h.turns.Take(c.ctx, c.id.Parent().Key())
		if err != nil {
			return errWriters(c.id.Parent(), err)
		}
		defer done()
	}
	if err := c.route.deletable(c.ctx, c.old.clone()); err != nil {
		return err
	}
	if !c.route.Async && !c.route.asyncDel {
		if err := h.remove(context.WithoutCancel(c.ctx), c.id); err != nil {
			return err
		}
		if c.route.deleteBody {
			return h.render(c, http.StatusOK, c.old)
		}
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	return h.startDelete(c)
}

func (h *Handler) startDelete(c *call) error {
	op := ops.Op{ID: ops.NewID(), Runner: runDelete, Target: c.old.ID, Principal: c.caller.ObjectID}
	var err error
	if op.Input, err = json.Marshal(putInput{Caller: c.caller, Query: c.r.URL.RawQuery}); err != nil {
		return fmt.Errorf("encode operation: %w", err)
	}
	gone := c.old.clone()
	gone.setState("Deleting")
	gone.Private = setPrivate(gone.Private, privateOp, op.ID)
	if err := h.res.Put(c.ctx, gone); err != nil {
		return conflict(err)
	}
	started, err := h.cfg.Ops.Start(context.WithoutCancel(c.ctx), op)
	if err != nil {
		return err
	}
	if op, err = h.wait(c.ctx, started); err != nil {
		return err
	}
	switch {
	case failed(op):
		return failure(op)
	case op.Status == ops.InProgress:
		return h.accepted(c, op)
	case c.route.Async: // clients of such types take 202 and 204; of managed clusters no 200
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	default:
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
}

// preempt ends what is being done to a resource that is to be deleted.
func (h *Handler) preempt(ctx context.Context, op ops.Op) error {
	ctx, cancel := context.WithTimeout(ctx, preemptTime)
	defer cancel()
	err := h.cfg.Ops.Cancel(ctx, op.ID, "OperationPreempted", "'"+op.Target+"' was deleted before the operation had finished.")
	if errors.Is(err, context.DeadlineExceeded) {
		return errBusy(rid.MustParse(op.Target))
	}
	return err
}

// preemptTime is how long an operation that is canceled may take to end.
const preemptTime = 20 * time.Second

// accepted answers 202: the deletion goes on.
func (h *Handler) accepted(c *call, op ops.Op) error {
	h.asyncHeaders(c, op, true)
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// under is the operation under way on e, nil when there is none.
func (h *Handler) under(ctx context.Context, e *Envelope) (*ops.Op, error) {
	id := e.Private[privateOp]
	if id == "" {
		return nil, nil
	}
	op, err := h.cfg.Ops.Get(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound): // the process died between intent and operation
		return nil, nil
	case err != nil:
		return nil, err
	case op.Status != ops.InProgress:
		return nil, nil
	}
	return &op, nil
}

func errBusy(id rid.ID) error {
	return apierr.New(apierr.Conflict, "AnotherOperationInProgress",
		"Another operation on '%s' is in progress. Retry when it has finished.", id)
}

func (h *Handler) resumeDelete(ctx context.Context, op ops.Op) error {
	var in putInput
	if err := decodeNumber(op.Input, &in); err != nil {
		return fmt.Errorf("decode operation: %w", err)
	}
	id := rid.MustParse(op.Target)
	query, err := url.ParseQuery(in.Query)
	if err != nil {
		return fmt.Errorf("decode operation: %w", err)
	}
	err = h.remove(context.WithValue(WithCaller(ctx, in.Caller), queryKey, asked{id.Key(), query}), id)
	if err != nil && ctx.Err() == nil {
		if e, gerr := h.res.Get(ctx, id); gerr == nil { // it stays, and says so
			e.setState("Failed")
			delete(e.Private, privateOp)
			err = errors.Join(err, h.res.Put(ctx, e))
		}
	}
	return err
}

// remove deletes a resource and everything under it, deepest first. It can be
// run again after a crash. What others made under it in the meantime goes too:
// what was written before it was gone is seen here, and who writes after that
// sees it: see orphaned.
func (h *Handler) remove(ctx context.Context, id rid.ID) error {
	if err := h.removeUnder(ctx, id); err != nil {
		return err
	}
	e, err := h.res.Get(ctx, id)
	if err == nil {
		err = h.removeOne(ctx, e)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return h.leftovers(ctx, id)
}

// removeUnder deletes what is under a resource, and not the resource.
func (h *Handler) removeUnder(ctx context.Context, id rid.ID) error {
	for {
		under, err := h.res.List(ctx, id, "", "", 1000)
		if err != nil {
			return err
		}
		if len(under) == 0 {
			return nil
		}
		slices.SortFunc(under, func(a, b *Envelope) int { return strings.Count(b.ID, "/") - strings.Count(a.ID, "/") })
		// A full page may end in the middle of a subtree: take only what has
		// nothing under it that the page does not show.
		for _, e := range under {
			if len(under) == 1000 {
				more, err := h.res.List(ctx, e.RID(), "", "", 1)
				if err != nil {
					return err
				}
				if len(more) > 0 {
					continue
				}
			}
			if err := h.removeOne(ctx, e); err != nil {
				return err
			}
		}
	}
}

// orphaned refuses a resource, just written, whose parent was deleted while
// that was going on, and takes it back: a role assignment that stayed behind
// would count again for whoever makes a resource of that name later.
func (h *Handler) orphaned(c *call, e *Envelope) error {
	if c.old != nil || c.route.home != nil {
		return nil
	}
	ctx := context.WithoutCancel(c.ctx)
	_, gone := h.scope(ctx, c)
	if !apierr.Is(gone, apierr.NotFound) {
		return gone
	}
	if err := h.cfg.Store.Delete(ctx, docKey(e.RID()), e.rev); err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		return errors.Join(gone, err)
	}
	return gone
}

// leftovers removes what is stored under a resource that is not there: a
// program that died may have left it. It looks for the resource again after it
// has seen them, and removes only what it has seen, so that nothing goes that
// another replica has just made.
func (h *Handler) leftovers(ctx context.Context, id rid.ID) error {
	for {
		under, err := h.res.List(ctx, id, "", "", 100)
		if err != nil || len(under) == 0 {
			return err
		}
		if _, err := h.res.Get(ctx, id); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		for _, e := range under {
			if err := h.undone(ctx, e); err != nil {
				return err
			}
			err := h.cfg.Store.Delete(ctx, docKey(e.RID()), e.rev)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return conflict(err)
			}
		}
	}
}

// undone undoes what was done for a resource, whose document is to go.
func (h *Handler) undone(ctx context.Context, e *Envelope) error {
	rt := h.routes[strings.ToLower(e.Type)]
	if rt == nil {
		return nil
	}
	if op, err := h.under(ctx, e); err != nil {
		return err
	} else if rt.cancels && op != nil && op.Runner != runDelete {
		if err := h.preempt(ctx, *op); err != nil {
			return err
		}
	}
	if err := rt.del(ctx, e); err != nil {
		return err
	}
	return h.forgetIdentity(ctx, rt, e)
}

func (h *Handler) removeOne(ctx context.Context, e *Envelope) error {
	if err := h.undone(ctx, e); err != nil {
		return err
	}
	if err := h.res.Delete(ctx, e.RID()); err != nil {
		return err
	}
	if h.cfg.Deleted != nil {
		return h.cfg.Deleted(ctx, e.RID())
	}
	return nil
}

// asyncHeaders points the client at the operation.
func (h *Handler) asyncHeaders(c *call, op ops.Op, location bool) {
	base := BaseURL(c.ctx) + "/subscriptions/" + c.id.Subscription()
	if ns, _, ok := strings.Cut(c.route.Type, "/"); ok && c.id.Namespace() != "" {
		base += "/providers/" + ns + "/locations/" + orGlobal(c.old) + "/"
	} else {
		base += "/"
	}
	q := "?api-version=" + c.version
	c.w.Header().Set("Azure-AsyncOperation", base+"operationStatuses/"+op.ID+q)
	if location {
		c.w.Header().Set("Location", base+"operationResults/"+op.ID+q)
	}
	c.w.Header().Set("Retry-After", "1")
}

func orGlobal(e *Envelope) string {
	if e == nil || e.Location == "" {
		return "global"
	}
	return e.Location
}

// operationEndpoints serves the status and result of long operations, under
// every provider's namespace and under the subscription.
func (h *Handler) operationEndpoints() []Endpoint {
	var list []Endpoint
	for _, p := range []string{
		"/subscriptions/{subscriptionId}",
		"/subscriptions/{subscriptionId}/providers/{namespace}/locations/{location}",
	} {
		for _, what := range []string{"operationStatuses", "operationResults"} {
			list = append(list, Endpoint{
				Method: http.MethodGet, Path: p + "/" + what + "/{operation}", Handle: func(ctx context.Context, r *Request) (*Response, error) {
					return h.operation(ctx, r, what == "operationResults")
				},
			})
		}
	}
	return list
}

func (h *Handler) operation(ctx context.Context, r *Request, result bool) (*Response, error) {
	op, err := h.cfg.Ops.Get(ctx, r.Params["operation"])
	missing := apierr.New(apierr.NotFound, "OperationNotFound", "The operation '%s' could not be found.", r.Params["operation"])
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing
	} else if err != nil {
		return nil, err
	}
	if op.Principal != Caller(ctx).ObjectID {
		target := rid.MustParse(op.Target)
		d, err := h.cfg.Authorizer.Check(ctx, Caller(ctx).ObjectID, h.readAction(target.Type()), false, target)
		if err != nil {
			return nil, err
		}
		if !d.Allowed {
			return nil, missing
		}
	}
	hd := http.Header{}
	if op.Status == ops.InProgress {
		hd.Set("Retry-After", "1")
		if result {
			hd.Set("Location", r.BaseURL+r.HTTP.URL.RequestURI())
			return &Response{Status: http.StatusAccepted, Header: hd}, nil
		}
	}
	if result {
		if failed(op) {
			return nil, failure(op)
		}
		out, err := h.result(ctx, op)
		if err != nil || out != nil {
			return &Response{Body: out}, err
		}
		return &Response{Status: http.StatusNoContent}, nil
	}
	body := map[string]any{"id": r.HTTP.URL.Path, "name": op.ID, "status": op.Status, "startTime": op.Started}
	if !op.Ended.IsZero() {
		body["endTime"] = op.Ended
	}
	if p := op.Progress; p != nil { // as Azure's percentComplete; the phases are ours
		body["percentComplete"], body["properties"] = p.Percent, map[string]any{"phases": p.Phases}
	}
	if op.Status == ops.Succeeded {
		body["percentComplete"] = 100
	}
	if failed(op) {
		body["error"] = wireError(&apierr.Error{Code: op.Code, Message: op.Message, Details: details(op.Details)})
	}
	return &Response{Header: hd, Body: body}, nil
}
