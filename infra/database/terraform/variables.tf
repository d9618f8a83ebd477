# ── Where ──

variable "region" {
  description = "AWS region of the host and the three buckets: a gateway endpoint reaches S3 of its own region only."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region is the name of an AWS region, such as eu-central-1."
  }
}

variable "availability_zone" {
  description = "Availability zone of the subnet, the host and its data disk. A disk cannot move to another zone."
  type        = string

  validation {
    condition     = startswith(var.availability_zone, var.region)
    error_message = "availability_zone is a zone of region, such as eu-central-1a."
  }
}

variable "name" {
  description = "Prefix of the names of everything that is made here."
  type        = string
  default     = "btc-ingest"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "name is 2 to 31 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "tags" {
  description = "Tags for everything that is made here."
  type        = map(string)
  default     = {}
}

# ── Network ──

variable "vpc_id" {
  description = "An existing VPC, with DNS support and DNS host names on. Null: a VPC of its own is made."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null || can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id looks like vpc-0123456789abcdef0."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made. With vpc_id: not used."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr))
    error_message = "vpc_cidr is an IPv4 range, such as 10.20.0.0/16."
  }
}

variable "subnet_cidr" {
  description = "Addresses of the private subnet that is made in the VPC; they must be free there."
  type        = string
  default     = "10.20.0.0/24"

  validation {
    condition     = can(cidrnetmask(var.subnet_cidr))
    error_message = "subnet_cidr is an IPv4 range, such as 10.20.0.0/24."
  }
}

variable "client_security_groups" {
  description = "Who may connect to PostgreSQL: a name (collectors, lambda, spark) and the id of its security group."
  type        = map(string)

  validation {
    condition     = length(var.client_security_groups) > 0
    error_message = "client_security_groups is empty: no client could connect."
  }
  validation {
    condition     = alltrue([for id in values(var.client_security_groups) : can(regex("^sg-[0-9a-f]+$", id))])
    error_message = "client_security_groups maps names to ids of security groups, such as sg-0123456789abcdef0."
  }
}

# ── The way in ──

variable "ssm_access" {
  description = "Reach the host with SSM's Session Manager: interface endpoints and the privileges of the agent."
  type        = bool
  default     = true

  validation {
    condition     = var.ssm_access || (length(var.ssh_security_groups) > 0 && var.key_name != null)
    error_message = "There is no way in: set ssm_access = true, or ssh_security_groups and key_name."
  }
}

variable "ssm_agent" {
  description = "Where SSM's agent comes from: ami, or bundle (Debian's images have none)."
  type        = string
  default     = "bundle"

  validation {
    condition     = contains(["ami", "bundle"], var.ssm_agent)
    error_message = "ssm_agent is ami or bundle."
  }
}

variable "ssh_security_groups" {
  description = "Who may connect by SSH: a name and the id of its security group."
  type        = map(string)
  default     = {}
}

variable "key_name" {
  description = "EC2 key pair for SSH. Null: none."
  type        = string
  default     = null
}

variable "cloudwatch_logs" {
  description = "Make an interface endpoint and a log group of CloudWatch Logs, and let the host write into it."
  type        = bool
  default     = false
}

# ── Host ──

variable "ami_id" {
  description = "Image of Debian 12 for amd64 (Debian's own, or one made from it)."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-f]+$", var.ami_id))
    error_message = "ami_id looks like ami-0123456789abcdef0."
  }
}

variable "login_user" {
  description = "User of the image who finds the scripts in ~/repo."
  type        = string
  default     = "admin"
}

variable "instance_type" {
  description = "Type of the instance; it must be an amd64 one, as the bundle's packages are."
  type        = string
  default     = "t3.medium"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9]+$", var.instance_type))
    error_message = "instance_type looks like t3.medium."
  }
}

variable "cpu_credits" {
  description = "Burstable types: unlimited (surplus credits are billed; an alarm tells) or standard (it slows down)."
  type        = string
  default     = "unlimited"

  validation {
    condition     = contains(["standard", "unlimited"], var.cpu_credits)
    error_message = "cpu_credits is standard or unlimited."
  }
}

variable "alarm_actions" {
  description = "ARNs to notify of an alarm, such as SNS topics. Empty: the alarms only show in CloudWatch."
  type        = list(string)
  default     = []
}

variable "termination_protection" {
  description = "Refuse to terminate the instance. Set it to false, apply, and only then destroy."
  type        = bool
  default     = true
}

variable "root_disk_gb" {
  description = "Size of the root disk in GB."
  type        = number
  default     = 20

  validation {
    condition     = var.root_disk_gb >= 10
    error_message = "root_disk_gb is at least 10."
  }
}

variable "data_disk_gb" {
  description = "Size of the disk of PostgreSQL's data directory in GB. A tick takes about 220 bytes, compressed 27."
  type        = number
  default     = 200

  validation {
    condition     = var.data_disk_gb >= 20
    error_message = "data_disk_gb is at least 20."
  }
}

variable "data_disk_iops" {
  description = "I/O operations a second of the data disk."
  type        = number
  default     = 3000

  validation {
    condition     = var.data_disk_iops >= 3000 && var.data_disk_iops <= 16000
    error_message = "data_disk_iops is 3000 to 16000."
  }
}

variable "data_disk_throughput" {
  description = "MiB a second of the data disk."
  type        = number
  default     = 125

  validation {
    condition     = var.data_disk_throughput >= 125 && var.data_disk_throughput <= 1000
    error_message = "data_disk_throughput is 125 to 1000."
  }
}

variable "disk_kms_key_id" {
  description = "ARN of the KMS key of the disks. Null: the account's default key for EBS."
  type        = string
  default     = null
}

# ── Buckets ──

variable "landing_bucket" {
  description = "Existing bucket into which collectors write. It is read and never changed."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.landing_bucket))
    error_message = "landing_bucket is the name of a bucket, without s3:// and without a key."
  }
}

variable "landing_prefix" {
  description = "Only keys that begin so may be read, such as Binance/. Empty: all keys of the landing bucket."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([^/].*/)?$", var.landing_prefix))
    error_message = "landing_prefix is empty, or ends with a slash and does not begin with one."
  }
}

variable "backup_bucket" {
  description = "Name of the bucket that is made for backups and archived WAL."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.backup_bucket))
    error_message = "backup_bucket is the name of a bucket, without s3:// and without a key."
  }
}

variable "artifact_bucket" {
  description = "Name of the bucket that is made for the bundle."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.artifact_bucket))
    error_message = "artifact_bucket is the name of a bucket, without s3:// and without a key."
  }
  validation {
    condition     = length(distinct([var.landing_bucket, var.backup_bucket, var.artifact_bucket])) == 3
    error_message = "landing_bucket, backup_bucket and artifact_bucket are three buckets."
  }
}

variable "bucket_kms_key_arns" {
  description = "KMS keys of the objects of the landing bucket, if they have any. The host may decrypt with them."
  type        = list(string)
  default     = []
}

variable "admin_role_arns" {
  description = "Further roles, besides the one that applies this, that may use the two buckets from elsewhere."
  type        = list(string)
  default     = []
}

variable "backup_versions_days" {
  description = "Days for which overwritten and deleted objects of the backup bucket are kept."
  type        = number
  default     = 35

  validation {
    condition     = var.backup_versions_days >= 1
    error_message = "backup_versions_days is at least 1."
  }
}

# ── Software ──

variable "bundle_file" {
  description = "What scripts/build_bundle.sh has made: a local file, uploaded into the artifact bucket."
  type        = string

  validation {
    condition     = endswith(var.bundle_file, ".tar")
    error_message = "bundle_file is a .tar that build_bundle.sh has made."
  }
}

variable "database" {
  description = "Name of the database."
  type        = string
  default     = "market"

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_]{0,62}$", var.database))
    error_message = "database is a plain name: lower-case letters, digits and underscores."
  }
}

variable "database_user" {
  description = "Role of the application. The setup by hand gives it its password: none is in user data or state."
  type        = string
  default     = "mlops"

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_]{0,62}$", var.database_user))
    error_message = "database_user is a plain name: lower-case letters, digits and underscores."
  }
}
