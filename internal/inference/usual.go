package inference

// usualModels are the names under which the built-in model is found where no
// models are configured: those that manifests and scripts most often deploy, so
// that they work unchanged. The first version of a name is its default.
// Source: Azure OpenAI, "Azure OpenAI in Azure AI Foundry Models".
func usualModels() []Model {
	var out []Model
	for _, m := range [][]string{
		{"gpt-35-turbo", "0125", "1106"},
		{"gpt-4", "turbo-2024-04-09", "0613"},
		{"gpt-4.1", "2025-04-14"},
		{"gpt-4.1-mini", "2025-04-14"},
		{"gpt-4.1-nano", "2025-04-14"},
		{"gpt-4o", "2024-11-20", "2024-08-06", "2024-05-13"},
		{"gpt-4o-mini", "2024-07-18"},
		{"gpt-5-mini", "2025-08-07"},
		{"gpt-5-nano", "2025-08-07"},
		{TinyWriter, "1"},
	} {
		for i, version := range m[1:] {
			out = append(out, builtinModel(m[0], version, i == 0))
		}
	}
	return out
}

func builtinModel(name, version string, isDefault bool) Model {
	return Model{Name: name, Version: version, Format: FormatOpenAI, Default: isDefault, Source: SourceBuiltin, Capabilities: Capabilities{Chat: true, Responses: true}}
}
