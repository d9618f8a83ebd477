output "instance_id" {
  description = "The host."
  value       = aws_instance.host.id
}

output "private_ip" {
  description = "Where PostgreSQL listens, on port 5432."
  value       = aws_instance.host.private_ip
}

output "database_security_group_id" {
  description = "For the egress rules of clients: PostgreSQL's host is in this group."
  value       = aws_security_group.database.id
}

output "s3_endpoint_id" {
  description = "For policies of the landing bucket, if it is to be read through this endpoint only (aws:sourceVpce)."
  value       = aws_vpc_endpoint.s3.id
}

output "route_table_id" {
  description = "The table without a route to the internet."
  value       = aws_route_table.private.id
}

output "role_arn" {
  description = "The host's role, for the policy of a landing bucket of another account."
  value       = aws_iam_role.host.arn
}

output "bundle_uri" {
  description = "The bundle, for setup_timescale.sh --bundle."
  value       = "s3://${var.artifact_bucket}/${aws_s3_object.bundle.key}"
}

output "backup_uri" {
  description = "Where backups and WAL may be written."
  value       = "s3://${var.backup_bucket}/"
}

output "dsn" {
  description = "For clients; the password is what the setup was given."
  value       = "postgresql://${var.database_user}@${aws_instance.host.private_ip}:5432/${var.database}?sslmode=require"
}

locals {
  by_ssm = "aws ssm start-session --region ${var.region} --target ${aws_instance.host.id}"
  by_ssh = "ssh ${var.login_user}@${aws_instance.host.private_ip}"
  way_in = var.ssm_access ? local.by_ssm : local.by_ssh
}

output "next_step" {
  description = "What to run now."
  value       = <<-TEXT
    ${local.way_in}
    cd ~/repo/infra/database/scripts && sudo ./setup_timescale.sh ${var.database} ${var.database_user} <secure-password>
  TEXT
}
