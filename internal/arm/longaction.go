package arm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
)

type actionInput struct {
	Action string          `json:"action"` // in lower case
	Body   json.RawMessage `json:"body"`
	Caller *token.Claims   `json:"caller"`
}

// startAction checks the action, records intent and operation and answers 202,
// or 204 when it was done at once. Source: ARM RPC, "Asynchronous operations".
func (h *Handler) startAction(c *call, a action, body json.RawMessage) error {
	done, err := h.turns.Take(c.ctx, c.id.Key())
	if err != nil {
		return apierr.New(apierr.Unavailable, "ServerTimeout", "Other writers of '%s' took too long.", c.id).WithCause(err)
	}
	defer done()
	e, err := h.res.Get(c.ctx, c.id)
	if errors.Is(err, store.ErrNotFound) {
		return NotFound(c.id)
	} else if err != nil {
		return err
	}
	if op, err := h.under(c.ctx, e); err != nil {
		return err
	} else if op != nil {
		return errBusy(c.id)
	}
	if _, err := a.run(c.ctx, e.clone(), body); err != nil {
		return err
	}
	op := ops.Op{ID: ops.NewID(), Runner: runAction, Target: e.ID, Principal: c.caller.ObjectID}
	if op.Input, err = json.Marshal(actionInput{strings.ToLower(a.name), body, c.caller}); err != nil {
		return fmt.Errorf("encode operation: %w", err)
	}
	intent := e.clone()
	intent.setState(a.state)
	intent.Private = setPrivate(intent.Private, privateOp, op.ID)
	if err := h.res.Put(c.ctx, intent); err != nil {
		return conflict(err)
	}
	started, err := h.cfg.Ops.Start(context.WithoutCancel(c.ctx), op)
	if err != nil {
		return errors.Join(err, h.undo(context.WithoutCancel(c.ctx), c.route, e, intent))
	}
	if op, err = h.wait(c.ctx, started); err != nil {
		return err
	}
	switch {
	case failed(op):
		return failure(op)
	case op.Status == ops.InProgress:
		c.old = e
		return h.accepted(c, op)
	}
	out, err := h.result(c.ctx, op)
	if err != nil {
		return err
	}
	if out != nil {
		writeJSON(c.w, http.StatusOK, out)
		return nil
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// result is what an action's operation that succeeded gave; nil where it gives
// nothing.
func (h *Handler) result(ctx context.Context, op ops.Op) (any, error) {
	if op.Runner != runAction {
		return nil, nil
	}
	var in actionInput
	if err := decodeNumber(op.Input, &in); err != nil {
		return nil, fmt.Errorf("decode operation: %w", err)
	}
	id := rid.MustParse(op.Target)
	rt := h.routes[strings.ToLower(id.Type())]
	if rt == nil || rt.actions[in.Action].result == nil {
		return nil, nil
	}
	e, err := h.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil // it was deleted meanwhile
	} else if err != nil {
		return nil, err
	}
	return rt.actions[in.Action].result(ctx, e)
}

// resumeAction is the work of an action's operation; idempotent.
func (h *Handler) resumeAction(ctx context.Context, op ops.Op) error {
	var in actionInput
	if err := decodeNumber(op.Input, &in); err != nil {
		return fmt.Errorf("decode operation: %w", err)
	}
	id := rid.MustParse(op.Target)
	rt := h.routes[strings.ToLower(id.Type())]
	if rt == nil || rt.actions[in.Action].act == nil {
		return fmt.Errorf("no action %s of %s in this version", in.Action, id.Type())
	}
	e, err := h.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.Private[privateOp] != op.ID {
		return nil // finished before a crash, or overtaken
	} else if err != nil {
		return err
	}
	acted := rt.actions[in.Action].act(WithCaller(ctx, in.Caller), e, in.Body)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	delete(e.Private, privateOp)
	setDone(rt, e)
	if acted != nil {
		e.setState("Failed")
	}
	err = h.res.Put(ctx, e)
	if errors.Is(err, store.ErrConflict) {
		if _, gone := h.res.Get(ctx, id); errors.Is(gone, store.ErrNotFound) {
			err = apierr.New(apierr.Conflict, "ResourceDeleted", "'%s' was deleted meanwhile.", id)
		}
	}
	return errors.Join(acted, err)
}
