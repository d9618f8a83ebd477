locals {
  burstable = can(regex("^t[0-9]", var.instance_type))
}

# An unlimited instance goes on at full speed when its credits are used up, and every further credit is billed.
resource "aws_cloudwatch_metric_alarm" "surplus_credits" {
  count = local.burstable && var.cpu_credits == "unlimited" ? 1 : 0

  alarm_name          = "${var.name}-cpu-surplus-credits"
  alarm_description   = "The host spends CPU credits that it has not earned; they are billed."
  namespace           = "AWS/EC2"
  metric_name         = "CPUSurplusCreditBalance"
  dimensions          = { InstanceId = aws_instance.host.id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 3
  alarm_actions       = var.alarm_actions
}

# A standard one slows down to its baseline instead.
resource "aws_cloudwatch_metric_alarm" "no_credits" {
  count = local.burstable && var.cpu_credits == "standard" ? 1 : 0

  alarm_name          = "${var.name}-cpu-credits"
  alarm_description   = "The host has nearly no CPU credits left; it becomes slow."
  namespace           = "AWS/EC2"
  metric_name         = "CPUCreditBalance"
  dimensions          = { InstanceId = aws_instance.host.id }
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 20
  period              = 300
  evaluation_periods  = 3
  alarm_actions       = var.alarm_actions
}
