package environment

// Meets is meets for a requirement.
func Meets(has string, r Requirement) bool { return meets(has, r.Asked, r.Pip) }
