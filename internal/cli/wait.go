package cli

import (
	"context"
	"net/http"
	"time"
)

// waitCommand makes a "wait" verb; where gives the path and api-version.
func waitCommand(path, short, example string, args []arg, where func(*call, *management) (string, string)) *command {
	args = append(args,
		flagOpt("created", "Until it is there and its state is Succeeded."),
		flagOpt("updated", "Until its state is Succeeded."),
		flagOpt("deleted", "Until it is gone."),
		flagOpt("exists", "Until it is there."),
		opt("custom", "Until this JMESPath expression is true: \"properties.x=='y'\"."),
		numberOpt("interval", "Seconds between two looks.").byDefault("30"),
		numberOpt("timeout", "Seconds to wait at most.").byDefault("3600"))
	return &command{path: path, short: short, example: example, args: args,
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			p, version := where(c, m)
			return nil, c.await(ctx, func() (any, error) { return m.get(ctx, p, version) })
		}}
}

// await looks until the condition of the options holds.
func (c *call) await(ctx context.Context, get func() (any, error)) error {
	done, err := c.condition()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(time.Duration(c.number("timeout")) * time.Second)
	p := &progress{s: c.session}
	defer p.end()
	for {
		v, err := get()
		gone := isStatus(err, http.StatusNotFound)
		if err != nil && !gone {
			return err
		}
		if gone {
			v = nil
		}
		ok, err := done(v)
		if err != nil || ok {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return failf("Wait operation timed-out after %d seconds", c.number("timeout"))
		}
		p.tick()
		if err := pause(ctx, min(left, time.Duration(c.number("interval"))*time.Second)); err != nil {
			return err
		}
	}
}

// condition gives what to wait for; its argument is nil where nothing is there.
func (c *call) condition() (func(v any) (bool, error), error) {
	switch {
	case c.flag("deleted"):
		return func(v any) (bool, error) { return v == nil, nil }, nil
	case c.flag("exists"):
		return func(v any) (bool, error) { return v != nil, nil }, nil
	case c.given("custom"):
		q, err := compileQuery(c.text("custom"))
		if err != nil {
			return nil, usagef("argument --custom: %s", err)
		}
		return func(v any) (bool, error) {
			if v == nil {
				return false, nil
			}
			r, err := q.run(v)
			return r != nil && r != false && r != "", err
		}, nil
	case c.flag("created"), c.flag("updated"):
		return func(v any) (bool, error) {
			state := textAt(v, "properties", "provisioningState")
			if err := stateError(state, v); err != nil {
				return false, err
			}
			return v != nil && (state == "" || terminal(state)), nil
		}, nil
	}
	return nil, usagef("incorrect usage: --created | --updated | --deleted | --exists | --custom JMESPATH")
}
