package arm

import (
	"slices"
	"strings"
)

// Location is one of Azure's regions, by its public name.
type Location struct{ Name, Display, Regional, Geography string }

// Locations are the regions that resources may name. All of them are here:
// a region is a label of where in Azure the resource would be.
func Locations() []Location {
	return []Location{
		{"eastus", "East US", "(US) East US", "US"}, {"eastus2", "East US 2", "(US) East US 2", "US"},
		{"southcentralus", "South Central US", "(US) South Central US", "US"}, {"westus2", "West US 2", "(US) West US 2", "US"},
		{"westus3", "West US 3", "(US) West US 3", "US"}, {"australiaeast", "Australia East", "(Asia Pacific) Australia East", "Asia Pacific"},
		{"southeastasia", "Southeast Asia", "(Asia Pacific) Southeast Asia", "Asia Pacific"}, {"northeurope", "North Europe", "(Europe) North Europe", "Europe"},
		{"swedencentral", "Sweden Central", "(Europe) Sweden Central", "Europe"}, {"uksouth", "UK South", "(Europe) UK South", "Europe"},
		{"westeurope", "West Europe", "(Europe) West Europe", "Europe"}, {"centralus", "Central US", "(US) Central US", "US"},
		{"southafricanorth", "South Africa North", "(Africa) South Africa North", "Africa"}, {"centralindia", "Central India", "(Asia Pacific) Central India", "Asia Pacific"},
		{"eastasia", "East Asia", "(Asia Pacific) East Asia", "Asia Pacific"}, {"japaneast", "Japan East", "(Asia Pacific) Japan East", "Asia Pacific"},
		{"koreacentral", "Korea Central", "(Asia Pacific) Korea Central", "Asia Pacific"}, {"canadacentral", "Canada Central", "(Canada) Canada Central", "Canada"},
		{"francecentral", "France Central", "(Europe) France Central", "Europe"}, {"germanywestcentral", "Germany West Central", "(Europe) Germany West Central", "Europe"},
		{"italynorth", "Italy North", "(Europe) Italy North", "Europe"}, {"norwayeast", "Norway East", "(Europe) Norway East", "Europe"},
		{"polandcentral", "Poland Central", "(Europe) Poland Central", "Europe"}, {"spaincentral", "Spain Central", "(Europe) Spain Central", "Europe"},
		{"switzerlandnorth", "Switzerland North", "(Europe) Switzerland North", "Europe"}, {"uaenorth", "UAE North", "(Middle East) UAE North", "Middle East"},
		{"brazilsouth", "Brazil South", "(South America) Brazil South", "South America"}, {"northcentralus", "North Central US", "(US) North Central US", "US"},
		{"westus", "West US", "(US) West US", "US"}, {"japanwest", "Japan West", "(Asia Pacific) Japan West", "Asia Pacific"},
		{"westcentralus", "West Central US", "(US) West Central US", "US"}, {"australiasoutheast", "Australia Southeast", "(Asia Pacific) Australia Southeast", "Asia Pacific"},
		{"koreasouth", "Korea South", "(Asia Pacific) Korea South", "Asia Pacific"}, {"southindia", "South India", "(Asia Pacific) South India", "Asia Pacific"},
		{"canadaeast", "Canada East", "(Canada) Canada East", "Canada"}, {"ukwest", "UK West", "(Europe) UK West", "Europe"},
		{"mexicocentral", "Mexico Central", "(Mexico) Mexico Central", "Mexico"}, {"israelcentral", "Israel Central", "(Middle East) Israel Central", "Middle East"},
		{"qatarcentral", "Qatar Central", "(Middle East) Qatar Central", "Middle East"}, {"global", "Global", "Global", ""},
	}
}

// LocationNames are the names alone.
func LocationNames() []string {
	var names []string
	for _, l := range Locations() {
		names = append(names, l.Name)
	}
	return names
}

// NormalizeLocation turns "East US" into "eastus".
func NormalizeLocation(s string) string {
	return strings.ToLower(strings.ReplaceAll(s, " ", ""))
}

// KnownLocation reports whether a normalized name is a region's.
func KnownLocation(name string) bool { return slices.Contains(LocationNames(), name) }
