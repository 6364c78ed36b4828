package cognitiveservices

import "lazurite.dev/internal/arm"

func (p *provider) endpoints() []arm.Endpoint { return nil }
