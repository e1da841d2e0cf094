package config

// Upstash is how to ask Upstash itself what it counts: its Developer API, which spends no command. Only
// audits ask it. It is not offered to accounts that were made through Vercel or Fly.
type Upstash struct {
	// Email is the account's address. Default none, and then nobody asks.
	Email string `yaml:"email" env:"UPSTASH_EMAIL"`

	// APIKey is a key of the Developer API, made in the console. Default none.
	APIKey Secret `yaml:"api_key" env:"UPSTASH_API_KEY"`

	// Database is the id or name of the database. Default the one whose endpoint is the upstream's, or
	// the only one there is.
	Database string `yaml:"database" env:"UPSTASH_DATABASE"`

	// APIURL is the address of the API; https, or http on a loopback address. Default
	// https://api.upstash.com/v2.
	APIURL URL `yaml:"api_url" env:"UPSTASH_API_URL"`
}
