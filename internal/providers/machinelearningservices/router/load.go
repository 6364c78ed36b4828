package router

// Pending is how many requests a deployment has: in progress, and waiting for
// an instance. Copies of other deployments' requests are none.
func (r *Router) Pending(deploymentUID string) int {
	p, ok := r.pools.all.Load(deploymentUID)
	if !ok {
		return 0
	}
	return int(p.(*pool).pending.Load())
}

// Served is a number that is another one after each request that came to a
// deployment, copies aside; 0 is that none came for long.
func (r *Router) Served(deploymentUID string) uint64 {
	p, ok := r.pools.all.Load(deploymentUID)
	if !ok {
		return 0
	}
	return p.(*pool).served.Load()
}
