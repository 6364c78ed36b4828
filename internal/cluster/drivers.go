package cluster

import (
	"context"
	"errors"
	"fmt"
)

// Auto chooses, for each new cluster, embedded where it can be used and issuer
// elsewhere. It is a value of Drivers.Mode beside the drivers' names.
const Auto = "auto"

// Drivers are the drivers that there are.
type Drivers struct {
	Mode string // Auto, or the name of the driver that new clusters get; "" is "issuer"
	List []Driver
}

// Named gives the driver of that name; a cluster from before drivers had names
// is the issuer's.
func (d *Drivers) Named(name string) (Driver, error) {
	if name == "" {
		name = IssuerOnly{}.Name()
	}
	for _, one := range d.List {
		if one.Name() == name {
			return one, nil
		}
	}
	return nil, fmt.Errorf("driver %q: %w: this program has none of that name", name, ErrUnavailable)
}

// Choose gives the driver for a new cluster. Where a better one could not be
// used, why says so: an ErrUnavailable.
func (d *Drivers) Choose(ctx context.Context) (chosen Driver, why, err error) {
	if d.Mode != Auto {
		one, err := d.Named(d.Mode)
		if err != nil {
			return nil, nil, err
		}
		_, err = one.Offer(ctx)
		return one, nil, err
	}
	one, err := d.Named(embeddedName)
	if err == nil {
		if _, err = one.Offer(ctx); err == nil {
			return one, nil, nil
		}
	}
	if !errors.Is(err, ErrUnavailable) {
		return nil, nil, err
	}
	why = err
	one, err = d.Named("")
	return one, why, err
}

// Unavailable is an ErrUnavailable that says no more than the reason.
func Unavailable(format string, args ...any) error {
	return &unavailable{fmt.Sprintf(format, args...)}
}

type unavailable struct{ reason string }

func (e *unavailable) Error() string { return e.reason }

func (e *unavailable) Is(target error) bool { return target == ErrUnavailable }
