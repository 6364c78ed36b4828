package endpoints

import (
	"context"
	"strings"

	"lazurite.dev/internal/arm"
)

// InstanceType is a size of machine, one instance of a deployment each.
type InstanceType struct {
	Name      string
	CPU       int     // processors
	MemoryGiB float64 // of the machine
	DiskGiB   int     // its temporary disk: what an instance may write
}

// instanceTypes are the sizes that managed online endpoints take. Source:
// "Managed online endpoints SKU list", and "Sizes for virtual machines". Those
// with GPUs are not among them: there are none here.
func instanceTypes() []InstanceType {
	return []InstanceType{
		{"Standard_DS1_v2", 1, 3.5, 7}, {"Standard_DS2_v2", 2, 7, 14}, {"Standard_DS3_v2", 4, 14, 28}, {"Standard_DS4_v2", 8, 28, 56}, {"Standard_DS5_v2", 16, 56, 112},
		{"Standard_D2a_v4", 2, 8, 50}, {"Standard_D4a_v4", 4, 16, 100}, {"Standard_D8a_v4", 8, 32, 200}, {"Standard_D16a_v4", 16, 64, 400}, {"Standard_D32a_v4", 32, 128, 800},
		{"Standard_D48a_v4", 48, 192, 1200}, {"Standard_D64a_v4", 64, 256, 1600}, {"Standard_D96a_v4", 96, 384, 2400},
		{"Standard_D2as_v4", 2, 8, 16}, {"Standard_D4as_v4", 4, 16, 32}, {"Standard_D8as_v4", 8, 32, 64}, {"Standard_D16as_v4", 16, 64, 128}, {"Standard_D32as_v4", 32, 128, 256},
		{"Standard_D48as_v4", 48, 192, 384}, {"Standard_D64as_v4", 64, 256, 512}, {"Standard_D96as_v4", 96, 384, 768},
		{"Standard_D2s_v3", 2, 8, 16}, {"Standard_D4s_v3", 4, 16, 32}, {"Standard_D8s_v3", 8, 32, 64}, {"Standard_D16s_v3", 16, 64, 128},
		{"Standard_E2a_v4", 2, 16, 50}, {"Standard_E4a_v4", 4, 32, 100}, {"Standard_E8a_v4", 8, 64, 200}, {"Standard_E16a_v4", 16, 128, 400},
		{"Standard_E2s_v3", 2, 16, 32}, {"Standard_E4s_v3", 4, 32, 64}, {"Standard_E8s_v3", 8, 64, 128}, {"Standard_E16s_v3", 16, 128, 256}, {"Standard_E32s_v3", 32, 256, 512},
		{"Standard_F2s_v2", 2, 4, 16}, {"Standard_F4s_v2", 4, 8, 32}, {"Standard_F8s_v2", 8, 16, 64}, {"Standard_F16s_v2", 16, 32, 128}, {"Standard_F32s_v2", 32, 64, 256},
		{"Standard_F48s_v2", 48, 96, 384}, {"Standard_F64s_v2", 64, 128, 512}, {"Standard_F72s_v2", 72, 144, 576},
		{"Standard_FX24mds", 24, 504, 1008}, {"Standard_FX36mds", 36, 756, 1512}, {"Standard_FX48mds", 48, 1008, 2016},
	}
}

// defaultInstance is what a deployment has that names no instance type. Source:
// "CLI (v2) managed online deployment YAML schema".
const defaultInstance = "Standard_DS3_v2"

func instanceType(name string) (InstanceType, bool) {
	for _, t := range instanceTypes() {
		if strings.EqualFold(t.Name, name) {
			return t, true
		}
	}
	return InstanceType{}, false
}

// vmSizes is GET …/locations/{location}/vmSizes. Source: "Virtual Machine Sizes - List".
func vmSizes(context.Context, *arm.Request) (*arm.Response, error) {
	list := []any{}
	for _, t := range instanceTypes() {
		family, _, _ := strings.Cut(strings.TrimPrefix(t.Name, "Standard_"), "_")
		list = append(list, map[string]any{
			"name": t.Name, "family": "standard" + strings.TrimRight(family, "0123456789") + "Family", "vCPUs": t.CPU, "gpus": 0,
			"memoryGB": t.MemoryGiB, "maxResourceVolumeMB": t.DiskGiB << 10, "lowPriorityCapable": false, "premiumIO": strings.Contains(lower(t.Name), "s_"), "supportedComputeTypes": []string{"ManagedOnlineEndpoint"},
		})
	}
	return &arm.Response{Body: map[string]any{"value": list}}, nil
}
