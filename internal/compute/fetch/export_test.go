package fetch

// What only tests see.
var (
	ParsePage = parsePage
	Relative  = relative
)
