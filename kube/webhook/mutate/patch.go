package mutate

import "strconv"

// patch is a JSON patch (RFC 6902) in the making.
type patch struct{ b []byte }

func newPatch(dst []byte) patch { return patch{append(dst, '[')} }

func (p *patch) end() []byte { return append(p.b, ']') }

// op begins an operation up to its path, which the caller appends and closes
// with value.
func (p *patch) op(op, path string) {
	if p.b[len(p.b)-1] != '[' {
		p.b = append(p.b, ',')
	}
	p.b = append(p.b, `{"op":"`...)
	p.b = append(p.b, op...)
	p.b = append(p.b, `","path":"`...)
	p.b = append(p.b, path...)
}

// index appends "/N", or "/-", the end, for a negative one.
func (p *patch) index(n int) {
	if p.b = append(p.b, '/'); n < 0 {
		p.b = append(p.b, '-')
		return
	}
	p.b = strconv.AppendInt(p.b, int64(n), 10)
}

func (p *patch) value() { p.b = append(p.b, `","value":`...) }

func (p *patch) done() { p.b = append(p.b, '}') }

// element adds value at the end of the list at path, or makes the list where
// there is none yet.
func (p *patch) element(path string, exists bool, value []byte) {
	p.op("add", path)
	if exists {
		p.index(-1)
	}
	p.value()
	p.list(exists, value)
	p.done()
}

func (p *patch) list(bare bool, value []byte) {
	if !bare {
		p.b = append(p.b, '[')
	}
	p.b = append(p.b, value...)
	if !bare {
		p.b = append(p.b, ']')
	}
}

// container gives the container at path[n] the variables that it lacks and the
// mount, which replaces one of the same name.
func (p *patch) container(path string, n int, c *container, vars []variable, mounts [][]byte, volume string, mount []byte) {
	inList := c.hasEnv
	for i := range vars {
		if vars[i].json == nil || c.env&vars[i].bit != 0 {
			continue
		}
		if inList {
			p.op("add", path)
			p.index(n)
			p.b = append(p.b, "/env/-"...)
			p.value()
			p.b = append(p.b, vars[i].json...)
			p.done()
			continue
		}
		p.op("add", path)
		p.index(n)
		p.b = append(p.b, "/env"...)
		p.value()
		p.env(c.env, vars)
		p.done()
		break
	}
	p.mount(path, n, c, mounts, volume, mount)
}

// env writes the whole list of a container that had none.
func (p *patch) env(have envSet, vars []variable) {
	p.b = append(p.b, '[')
	first := true
	for i := range vars {
		if vars[i].json == nil || have&vars[i].bit != 0 {
			continue
		}
		if !first {
			p.b = append(p.b, ',')
		}
		first = false
		p.b = append(p.b, vars[i].json...)
	}
	p.b = append(p.b, ']')
}

func (p *patch) mount(path string, n int, c *container, mounts [][]byte, volume string, mount []byte) {
	for i, name := range mounts[c.from:c.to] {
		if string(name) == volume {
			p.op("replace", path)
			p.index(n)
			p.b = append(p.b, "/volumeMounts"...)
			p.index(i)
			p.value()
			p.b = append(p.b, mount...)
			p.done()
			return
		}
	}
	p.op("add", path)
	p.index(n)
	p.b = append(p.b, "/volumeMounts"...)
	if c.hasMounts {
		p.index(-1)
	}
	p.value()
	p.list(c.hasMounts, mount)
	p.done()
}

// volume adds the volume to the pod, or replaces the one of the same name.
func (p *patch) volume(pod *Pod, name string, volume []byte) {
	for i, have := range pod.volumes {
		if string(have) == name {
			p.op("replace", "/spec/volumes")
			p.index(i)
			p.value()
			p.b = append(p.b, volume...)
			p.done()
			return
		}
	}
	p.element("/spec/volumes", pod.hasVolumes, volume)
}
